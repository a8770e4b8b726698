"""Chat templates: how the messages of a chat become the text that a model continues.

They are written for the Hub's conventions, so that an engine can be given the file: ``messages``, ``bos_token`` and
``add_generation_prompt`` are what they know.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

_FOLDER = Path(__file__).with_name("chat")
# As transformers sets it up. What is rendered is a prompt and no page: nothing is to be escaped.
_ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=["jinja2.ext.loopcontrols"]
)


def _raise(message: str) -> None:
    raise TemplateError(message)


_ENVIRONMENT.globals["raise_exception"] = _raise
_ENVIRONMENT.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)


def template_path(name: str) -> Path:
    """Return the file of one of our templates, as :attr:`loadgen.models.model.Model.template` names it."""
    return _FOLDER / f"{name}.jinja"


def template_names() -> list[str]:
    """Return the names of our templates."""
    return sorted(path.stem for path in _FOLDER.glob("*.jinja"))


def template_text(name: str) -> str:
    """Return one of our templates; raises FileNotFoundError."""
    return template_path(name).read_text(encoding="utf-8")


def render(template: str, prompt: str, bos_token: str = "") -> str:
    """Return the text of a chat of one message of the user's, by the text of a template.

    ``bos_token`` stays empty for an engine that puts it in front of whatever it is sent.
    """
    return render_chat(template, [{"role": "user", "content": prompt}], bos_token)


def render_chat(template: str, messages: Sequence[Mapping[str, str]], bos_token: str = "") -> str:
    """Return the text of a chat up to where the assistant's next message begins."""
    return _compiled(template).render(messages=messages, bos_token=bos_token, add_generation_prompt=True)


@lru_cache(maxsize=8)
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)

"""What of a chat is done here, as the engine does not: making the prompt's text, and telling it what ends an answer."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadgen.engines.engine import Engine
from loadgen.errors import EngineError, OptionError
from loadgen.models.model import Model
from loadgen.models.table import find_model
from loadgen.models.template import render_chat, template_text
from loadgen.protocol.client import Template
from loadgen.record import Phase
from loadgen.request import Place, Request
from loadgen.results.launched import Launched
from loadgen.results.manifest import MadeBy
from loadgen.scenario import Scenario
from loadgen.workload.defaults import RequestDefaults
from loadgen.workload.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Chat:
    """How a prompt is sent."""

    made_by: MadeBy
    template: str | None = None
    """Text of the chat template, where it is made here."""
    stop: tuple[str, ...] = ()
    """Sent along, so that all engines end a model's answer at the same words."""

    def shortest(self, model: str, scenario: Scenario) -> Request:
        """Return a request like those of a scenario, for an answer of one token."""
        request = RequestDefaults.of_run(scenario, model, self.stop).request("Hello.", Place(phase=Phase.WARMUP))
        return msgspec.structs.replace(request, id="preflight", max_tokens=1)

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Raise EngineError if the chat template is applied here and fails on one of the prompts."""
        if self.template is None:
            return
        template = applied(self.template)
        try:
            for prompt in prompts:
                template(prompt.input)
        except Exception as error:  # noqa: BLE001 a template may do anything
            said = f"{type(error).__name__}: {error}"
            raise EngineError(f"the model's chat template cannot be rendered here: {said}.") from None


def applied(template: str) -> Template:
    """Return the function that applies a chat template to the messages of a chat."""
    # A list of dictionaries, as templates are written for: some put messages of their own in front.
    return lambda messages: render_chat(template, [{"role": m.role, "content": m.content} for m in messages])


def chat_for(engine: Engine, launched: Launched | None, model: str, scenario: Scenario) -> Chat:
    """Return how prompts are sent to an engine: by what it was started with here, else by what is known of the model.

    No beginning-of-sequence token is rendered, as engines put it before the text that they receive. Raises OptionError
    if ``--ignore-eos`` is set and the engine has no field for answers of a fixed length.
    """
    known = find_model(model)
    stop = launched.stop if launched else known.stop if known else ()
    template = None if engine.applies_chat_template else _template(launched, known)
    made_by: MadeBy = "engine" if engine.applies_chat_template else "nobody" if template is None else "client"
    if not scenario.ignore_eos:
        return Chat(made_by, template, () if engine.handles_stop_tokens else stop)
    if engine.fixed_length_fields is None:
        raise OptionError(
            f"--ignore-eos: {engine.title} cannot be asked for that; random weights never end by themselves."
        )
    return Chat(made_by, template)


def _template(launched: Launched | None, known: Model | None) -> str | None:
    if launched is not None:
        return template_of(launched)
    return template_text(known.template) if known is not None and known.template else None


def template_of(launched: Launched) -> str | None:
    """Return the chat template in the folder of a model that was launched, None if it has none."""
    folder = Path(launched.source)
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except (OSError, ValueError):
        pass
    try:
        config = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return None
    template = config.get("chat_template") if isinstance(config, dict) else None
    if isinstance(template, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None

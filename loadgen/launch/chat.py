"""What of a chat is done here, as the engine does not: making the prompt's text, and telling it what ends an answer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.engines.engine import Engine, FixedLengthFields
from loadgen.errors import UsageError
from loadgen.models.model import Model
from loadgen.models.table import find_model
from loadgen.models.template import render, template_text
from loadgen.protocol.api import Ask
from loadgen.results.launched import Launched
from loadgen.results.manifest import MadeBy
from loadgen.scenario import Scenario
from loadgen.workload.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Chat:
    """How a prompt is sent."""

    made_by: MadeBy
    template: str | None = None
    """Text of the chat template, where it is made here."""
    stop: tuple[str, ...] = ()
    """Sent along, so that all engines end a model's answer at the same words."""
    fixed_length_fields: FixedLengthFields | None = None
    """How answers are asked for that do not end before ``max_tokens``, if they are."""

    def fields(self, max_tokens: int) -> dict[str, Any]:
        """Return further fields of each request's body."""
        return dict(self.fixed_length_fields(max_tokens)) if self.fixed_length_fields else {}

    def shortest(self, model: str, scenario: Scenario) -> Ask:
        """Return a request like those of a scenario, for an answer of one token."""
        return Ask("Hello.", model, 1, scenario.temperature, scenario.stream, self.stop, self.fields(1))

    def sent(self, prompt: Prompt) -> Prompt:
        """Return a prompt as the engine gets it; raises UsageError where the template fails."""
        if self.template is None:
            return prompt
        try:
            return Prompt(prompt.row, render(self.template, prompt.text))
        except Exception as error:  # noqa: BLE001 a template may do anything
            said = f"{type(error).__name__}: {error}"
            raise UsageError(f"the model's chat template cannot be rendered here: {said}.") from None


def chat_for(engine: Engine, launched: Launched | None, model: str, scenario: Scenario) -> Chat:
    """Return how prompts are sent to an engine: by what it was started with here, else by what is known of the model.

    No beginning-of-sequence token is rendered: engines put it before the text they are sent. Raises UsageError where
    the engine cannot be asked for answers of a given length.
    """
    known = find_model(model)
    stop = launched.stop if launched else known.stop if known else ()
    template = None if engine.applies_chat_template else _template(launched, known)
    made_by: MadeBy = "engine" if engine.applies_chat_template else "nobody" if template is None else "client"
    if not scenario.ignore_eos:
        return Chat(made_by, template, () if engine.handles_stop_tokens else stop)
    if engine.fixed_length_fields is None:
        raise UsageError(
            f"--ignore-eos: {engine.title} cannot be asked for that; random weights never end by themselves."
        )
    return Chat(made_by, template, fixed_length_fields=engine.fixed_length_fields)


def _template(launched: Launched | None, known: Model | None) -> str | None:
    if launched is not None:
        return _template_of(Path(launched.source))
    return template_text(known.template) if known is not None and known.template else None


def _template_of(folder: Path) -> str | None:
    """Return the chat template of a model's folder, as the Hub has it in one of two places."""
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

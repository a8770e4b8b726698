"""Ollama: a GGUF file becomes a model of its own when the server is up.

It has no metrics and no ``ignore_eos``, and its prompt cache cannot be switched off: a prompt that repeats the last one
of a slot costs no prefill. A chat template of ours becomes text around the prompt.
"""

import shlex
from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Launch, Options, Start
from loadgen.models.template import render, template_text
from loadgen.protocol.chat import ChatApi

VERSION = "0.33.0"
SLOTS = 16
"""Requests at once; others wait."""


def _slots(_options: Options) -> int:
    return SLOTS


def _modelfile(start: Start) -> str:
    lines = [f"FROM {start.source}", f"PARAMETER num_ctx {start.context}"]
    if start.model.template is not None:
        text = render(template_text(start.model.template), "{{ .Prompt }}")
        lines.append(f'TEMPLATE """{text}"""')
    return "\n".join(lines)


def _serve(start: Start) -> Sequence[Command]:
    made = f"printf %s {shlex.quote(_modelfile(start))} > Modelfile"
    create = f"ollama create {shlex.quote(start.model.name)} -f Modelfile"
    up = "until ollama list >/dev/null 2>&1; do kill -0 $! || exit 1; sleep 0.2; done"
    return [["-c", f"ollama serve & {up}; {made} && {create} && wait"]]


ENGINE = Engine(
    name="ollama",
    title=f"Ollama {VERSION}",
    apis=(ChatApi(),),
    launches=(
        Launch(
            runs_in=Container(image=f"ollama/ollama:{VERSION}", port=11434, arguments=("--entrypoint", "sh")),
            commands=_serve,
            variables={
                "OLLAMA_HOST": "0.0.0.0:11434",
                "OLLAMA_NUM_PARALLEL": str(SLOTS),
                "OLLAMA_KEEP_ALIVE": "-1",
                "OLLAMA_MAX_LOADED_MODELS": "1",
                "OLLAMA_NO_CLOUD": "1",
            },
            weight_format="gguf",
            split="layers",
            startup_s=60,
        ),
    ),
    health=None,  # it is up before its model is there
    info_routes=("/api/version",),
    reserved_sequences=_slots,
    template_source="text around the prompt, made from our template",
    notes=("Its prompt cache cannot be switched off.", "It has no ignore_eos."),
)

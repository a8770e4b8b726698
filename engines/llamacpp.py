"""llama.cpp's server. Its prompt cache is off, or a repeated prompt would cost nothing.

Without a GPU it is the one that comes with this project, built for the CPU; with one, the project's image.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Environment, Launch, Metrics, Options, Start, ignore_eos
from loadgen.protocol.chat import ChatApi

SLOTS = 16
"""Requests at once, unless ``slots`` says otherwise; others wait."""

METRICS = Metrics(
    prompt_tokens=("llamacpp:prompt_tokens_total",),
    output_tokens=("llamacpp:tokens_predicted_total",),
    running=("llamacpp:requests_processing",),
    waiting=("llamacpp:requests_deferred",),
)


def _slots(options: Options) -> int:
    return int(options.get("slots", SLOTS))


def _server(start: Start) -> Sequence[Command]:
    slots, context = str(_slots(start.options)), str(start.context)
    command = ["{bin}/python", "-m", "loadgen.launch.llamacpp_server", start.source, slots, context]
    return [[*command, "--port", str(start.port), "--alias", start.model.name, "--until-killed"]]


def _image(start: Start) -> Sequence[Command]:
    # The context is that of all slots together. -sm layer: each GPU has some of the layers.
    command = ["-m", start.source, "--alias", start.model.name, "--host", start.host, "--port", str(start.port)]
    command += ["-ngl", "all", "-sm", "layer", "--parallel", str(_slots(start.options)), "--metrics", "--no-webui"]
    return [[*command, "--ctx-size", str(_slots(start.options) * start.context)]]


ENGINE = Engine(
    name="llamacpp",
    title="llama.cpp",
    apis=(ChatApi(extra={"cache_prompt": False}),),
    launches=(
        Launch(
            runs_in=Container(image="ghcr.io/ggml-org/llama.cpp:server-cuda", port=8080),
            commands=_image,
            needs_gpu=True,
            weight_format="gguf",
            split="layers",
        ),
        Launch(
            runs_in=Environment(),
            commands=_server,
            weight_format="gguf",
            uses_gpu=False,
            split=None,
            startup_s=3,
        ),
    ),
    info_routes=("/props",),
    metrics=METRICS,
    fixed_length_fields=ignore_eos,
    options=("slots",),
    reserved_sequences=_slots,
    notes=("cache_prompt is false in each request; the default would skip the prefill of a repeated prompt.",),
)

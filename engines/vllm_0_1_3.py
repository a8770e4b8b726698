"""vLLM 0.1.3 (2023-07): no usage in a stream and no ``stream_options``; a tokenizer has to count.

It builds CUDA kernels when it is installed. The chat template is FastChat's, found by the name that it serves.
"""

from collections.abc import Sequence

from engines.engine import Command, Engine, Environment, Launch, Start
from loadgen.wire.openai_chat import OpenAIChat


def _name(start: Start) -> str:
    # FastChat finds llama-2's template by this spelling; any other would get a prompt of 2,000 characters.
    return start.model.name.replace("llama2", "llama-2")


def _serve(start: Start) -> Sequence[Command]:
    command = ["{bin}/python", "-m", "vllm.entrypoints.openai.api_server", "--model", start.source]
    command += ["--host", start.host, "--port", str(start.port), "--served-model-name", _name(start)]
    if start.model.remote_code:
        command += ["--trust-remote-code"]
    if len(start.gpus) > 1:
        command += ["--tensor-parallel-size", str(len(start.gpus))]
    return [[*command, "--disable-log-requests"]]


ENGINE = Engine(
    name="vllm-0.1.3",
    title="vLLM 0.1.3",
    dialect=OpenAIChat(ask_usage=False),
    launches=(
        Launch(
            runs_in=Environment(
                requirements=("vllm==0.1.3", "fschat==0.2.23", "transformers==4.31.0", "pydantic<2"), size_gb=8
            ),
            commands=_serve,
            needs_gpu=True,
            split="tensor",
            startup_s=120,
        ),
    ),
    serves=_name,
    health=None,
    accepts=frozenset({"ignore_eos"}),
)

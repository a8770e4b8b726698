"""vLLM 0.1.3 (2023-07): no usage in a stream and no ``stream_options``; a tokenizer has to count.

It builds CUDA kernels when it is installed. The chat template is FastChat's, found by the name that it serves; what
ends an answer by that template it leaves aside, so that it is sent along.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Engine, Environment, Launch, Start, ignore_eos
from loadgen.protocol.chat import ChatApi

BUILT_ON = ("torch==2.0.1", "numpy==1.26.4", "setuptools==68.2.2", "wheel", "ninja", "packaging")
"""Of its time: what pip would build against is newer than what would be installed."""

REQUIREMENTS = (
    "vllm==0.1.3",
    "fschat==0.2.23",
    "transformers==4.31.0",
    "tokenizers==0.13.3",
    "huggingface-hub==0.16.4",
    "xformers==0.0.21",
    "ray==2.6.3",
    "pydantic==1.10.12",
    "fastapi==0.101.1",
    "uvicorn==0.23.2",
    "sentencepiece==0.1.99",
)


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
    if start.is_random:
        command += ["--use-dummy-weights"]
    return [[*command, "--seed", "0", "--disable-log-requests"]]


ENGINE = Engine(
    name="vllm-0.1.3",
    title="vLLM 0.1.3",
    apis=(ChatApi(ask_usage=False),),
    launches=(
        Launch(
            runs_in=Environment(requirements=REQUIREMENTS, size_gb=8, built_on=BUILT_ON, programs=("nvcc",)),
            commands=_serve,
            needs_gpu=True,
            supports_dummy_weights=True,
            split="tensor",
            startup_s=120,
        ),
    ),
    served_model_name=_name,
    health=None,
    reports_stream_usage=False,
    template_source="FastChat, by the name that it serves",
    notes=(
        "Chat templates are FastChat's, found by the name that it serves.",
        "Streams are counted by the model's tokenizer; of random weights' words it makes up to 5 % more tokens.",
        "The token that ends an answer counts in usage; in a stream it is no text, and does not.",
    ),
    fixed_length_fields=ignore_eos,
)

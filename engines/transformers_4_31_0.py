"""Transformers 4.31.0 (2023-07) behind FastChat 0.2.23, three processes: it had no server of its own.

Two tokens a chunk, no usage in a stream; ``completion_tokens`` is the zero-based index of the last step, one less than
the tokens generated (``serve/inference.py``). The prompt is FastChat's template of the model, found by its name.
"""

from collections.abc import Sequence

from loadgen.engines.engine import Command, Engine, Environment, Launch, Start
from loadgen.protocol.chat import ChatApi

REQUIREMENTS = (
    "fschat[model_worker]==0.2.23",
    "transformers==4.31.0",
    "tokenizers==0.13.3",
    "huggingface-hub==0.16.4",
    "safetensors==0.3.2",
    "accelerate==0.21.0",
    "peft==0.4.0",
    "sentencepiece==0.1.99",
    "pydantic==1.10.12",
    "fastapi==0.101.1",
    "starlette==0.27.0",
    "uvicorn==0.23.2",
    "httpx==0.24.1",
    "numpy==1.26.4",
    "torch==2.13.0",
)


def _processes(start: Start) -> Sequence[Command]:
    controller, worker = start.more_ports
    at = ["--host", start.host]
    module = ["{bin}/python", "-m"]
    address = f"http://{start.host}:{controller}"
    device = ["--num-gpus", str(len(start.gpus))] if start.gpus else ["--device", "cpu"]
    template = ["--conv-template", start.model.template] if start.model.template else []
    own = ["--worker-address", f"http://{start.host}:{worker}", "--controller-address", address]
    names = ["--model-path", start.source, "--model-names", start.model.name]
    return [
        [*module, "fastchat.serve.controller", *at, "--port", str(controller)],
        [*module, "fastchat.serve.model_worker", *at, "--port", str(worker), *own, *names, *template, *device],
        [*module, "fastchat.serve.openai_api_server", *at, "--port", str(start.port), "--controller-address", address],
    ]


ENGINE = Engine(
    name="transformers-4.31.0",
    title="Transformers 4.31.0",
    apis=(ChatApi(ask_usage=False, uncounted_tokens=1),),
    launches=(
        Launch(
            runs_in=Environment(requirements=REQUIREMENTS, size_gb=1.2),
            commands=_processes,
            needs_sigkill=True,
            split="layers",
            startup_s=60,
        ),
    ),
    health=None,
    handles_stop_tokens=True,
    template_source="FastChat, the one named in --conv-template, else by the model's name",
    reports_stream_usage=False,
    notes=(
        "completion_tokens is one less than the tokens generated, which is corrected.",
        "Streams are counted by the model's tokenizer; of random weights' words it makes up to 5 % more tokens.",
        "Chat templates are FastChat's; for a model without one of ours, the one that it finds by the model's name.",
    ),
)

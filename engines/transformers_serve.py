"""``transformers serve``: usage always comes in the last chunk, there is no ``[DONE]``, unknown fields are refused.

One request at a time, others wait, unless ``continuous_batching`` is set. It counts the end-of-sequence token.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loadgen.engines.engine import Command, Engine, Environment, Launch, Options, Start
from loadgen.protocol.chat import ChatApi

VERSION = "5.23.0"
SLOTS = 16
"""Conversations for which the KV cache of continuous batching has room."""


def _serve(start: Start) -> Sequence[Command]:
    device = "auto" if start.gpus else "cpu"
    command = ["{bin}/transformers", "serve", start.source, "--host", start.host, "--port", str(start.port)]
    command += ["--device", device, "--dtype", start.model.dtype]
    if start.model.remote_code:
        command += ["--trust-remote-code"]
    return [[*command, *_batching(start)]]


def _reserved_sequences(options: Options) -> int:
    return int(options.get("slots", SLOTS)) if options.get("continuous_batching") else 1


def _batching(start: Start) -> list[str]:
    """Continuous batching. Without the number of its blocks the KV cache would take whatever memory is free."""
    if not start.options.get("continuous_batching"):
        return []
    block = 32
    blocks = -(-start.context * _reserved_sequences(start.options) // block)
    size = ["--cb-block-size", str(block), "--cb-num-blocks", str(blocks)]
    return ["--continuous-batching", *size, "--cb-max-batch-tokens", str(start.options.get("batch_tokens", 512))]


def _fixed_length_fields(max_tokens: int) -> Mapping[str, Any]:
    # ignore_eos is refused, with status 422. What a configuration that is sent leaves out is the model's.
    return {"generation_config": json.dumps({"min_new_tokens": max_tokens})}


def _path(start: Start) -> str:
    return start.source


ENGINE = Engine(
    name="transformers",
    title=f"Transformers {VERSION}",
    apis=(ChatApi(ask_usage=False),),
    launches=(
        Launch(
            runs_in=Environment(requirements=(f"transformers[serving]=={VERSION}", "torch==2.13.0"), size_gb=1.2),
            commands=_serve,
            variables={"HF_HUB_DISABLE_TELEMETRY": "1"},
            split="layers",
            startup_s=20,
        ),
    ),
    served_model_name=_path,
    fixed_length_fields=_fixed_length_fields,
    options=("continuous_batching", "slots", "batch_tokens"),
    reserved_sequences=_reserved_sequences,
    notes=("One request at a time, unless continuous_batching is set; with it stop strings are not honoured.",),
)

"""AIPerf (ai-dynamo, NVIDIA): asyncio and aiohttp in workers, with services around them that speak over ZeroMQ."""

import json
from pathlib import Path
from typing import Any

from benchmarks.peers import tokenizer
from benchmarks.peers.peer import MODEL, PROMPT, Answer, Load, Peer, Reported

VERSION = "0.13.0"


def _command(python: str, load: Load, folder: Path) -> list[str]:
    prompts = folder / "prompts.jsonl"
    prompts.write_text(json.dumps({"text": PROMPT}) + "\n")
    # Not `python -m aiperf`: the module has no such entry, the script beside the interpreter is the way in.
    command = [str(Path(python).with_name("aiperf")), "profile", "--model", MODEL, "--url", load.host]
    command += ["--endpoint-type", "chat", "--streaming", "--tokenizer", str(tokenizer.folder())]
    command += ["--input-file", str(prompts), "--custom-dataset-type", "single_turn"]
    command += ["--concurrency", str(load.streams), "--request-count", str(load.requests)]
    if load.spread_s:
        command += ["--concurrency-ramp-duration", str(load.spread_s)]
    command += ["--extra-inputs", json.dumps({"max_tokens": load.tokens})]
    command += ["--output-artifact-dir", str(folder), "--export-level", "records"]
    return [*command, "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"]


def _read(folder: Path) -> Reported:
    rows = (json.loads(line) for line in (folder / "profile_export.jsonl").read_bytes().splitlines())
    return Reported(tuple(_answer(row) for row in rows if not row.get("error")))


def _answer(row: dict[str, Any]) -> Answer:
    metrics = row["metrics"]
    gaps = metrics.get("inter_chunk_latency", {"value": []})["value"]
    return Answer(metrics["time_to_first_token"]["value"], tuple(gaps), row["metadata"]["x_request_id"])


PEER = Peer(
    name="aiperf",
    version=VERSION,
    requirements=(f"aiperf=={VERSION}",),
    command=_command,
    read=_read,
    # Offline it refuses a tokenizer in a local folder, and to it any value but the empty one means offline.
    env={"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": ""},
)

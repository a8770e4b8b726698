"""guidellm (vllm-project): asyncio, httpx and up to ten worker processes.

It exports no request ids, and of the gaps between tokens only their mean per request.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.peers import tokenizer
from benchmarks.peers.peer import MODEL, PROMPT, Answer, Load, Peer, Reported

VERSION = "0.8.1"


def _command(python: str, load: Load, folder: Path) -> list[str]:
    options: dict[str, dict[str, Any]] = {
        "backend": {
            "kind": "openai_http",
            "target": load.host,
            "model": MODEL,
            # It asks for max_completion_tokens; the truth server knows the older name only.
            "extras": {"body": {"max_tokens": load.tokens}},
            # The check has 5 s to connect, which importing torch can take up on a cold start.
            "validate_backend": False,
        },
        "profile": {"kind": "concurrent", "streams": load.streams, "rampup_duration": load.spread_s},
        "constraint": {"kind": "max_requests", "count": load.requests},
        "tokenizer": {"kind": "huggingface_auto", "model": str(tokenizer.folder())},
        "data": {"kind": "json_file", "path": str(_prompts(folder, load))},
        "output": {"kind": "json", "path": str(folder / "benchmarks.json")},
    }
    given = [part for name, value in options.items() for part in (f"--{name}", json.dumps(value))]
    return [python, "-m", "guidellm", "run", *given, "--disable-console"]


def _prompts(folder: Path, load: Load) -> Path:
    """Write a row for each request: it ends when the rows do, and passes on whole messages as they are."""
    row = json.dumps({"messages": [{"role": "user", "content": PROMPT}]})
    path = folder / "prompts.jsonl"
    path.write_text((row + "\n") * load.requests)
    return path


def _read(folder: Path) -> Reported:
    (benchmark,) = json.loads((folder / "benchmarks.json").read_bytes())["benchmarks"]
    return Reported(tuple(Answer(row["time_to_first_token_ms"]) for row in benchmark["requests"]["successful"]))


PEER = Peer(
    name="guidellm",
    version=VERSION,
    # torch first, pinned: left to guidellm, a build with CUDA would come.
    requirements=("torch==2.13.0", f"guidellm=={VERSION}"),
    command=_command,
    read=_read,
)

"""Bare loops: programs of ours, one for each way of reading a stream, run in the environment of the client they use."""

import json
from pathlib import Path

from benchmarks.peers.peer import MODEL, PROMPT, Answer, Load, Reported

LOOPS = Path(__file__).with_name("loops")
_REPORT = "answers.json"


def options(load: Load, folder: Path) -> list[str]:
    """Return the arguments that all loops take."""
    given = {
        "--url": f"{load.host}/v1",
        "--model": MODEL,
        "--prompt": PROMPT,
        "--streams": load.streams,
        "--requests": load.requests,
        "--tokens": load.tokens,
        "--spread": load.spread_s,
        "--report": folder / _REPORT,
    }
    return [str(part) for pair in given.items() for part in pair]


def command(script: str, python: str, load: Load, folder: Path) -> list[str]:
    """Return the command of a loop that is a program."""
    return [python, str(LOOPS / script), *options(load, folder)]


def read(folder: Path) -> Reported:
    """Return what a loop wrote."""
    rows = json.loads((folder / _REPORT).read_bytes())
    return Reported(tuple(Answer(row["ttft_ms"], tuple(row["itl_ms"]), row["request_id"]) for row in rows))

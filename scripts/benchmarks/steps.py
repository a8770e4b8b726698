"""Where the CPU time of a request goes in our client, step by step."""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures, Section
from benchmarks.ours import Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds

_TIMED = Path(__file__).with_name("locustfiles") / "steps.py"
_CASES = {
    "token by token, 128 tokens": ("1", 128, 8),
    "lazily, 128 tokens": ("0", 128, 8),
    "lazily, 512 tokens": ("0", 512, 3),
}
"""Share read token by token, tokens, requests of a stream."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=256, help="number of concurrent streams")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {name: partial(_round, options.streams, *case) for name, case in _CASES.items()}
    found, notes = run_rounds(cases, options.rounds)
    notes.append(
        "CPU time of the thread within each step, us a request. Timing itself takes some 1 us a step and read; "
        "greenlets, the loop's wake-ups, starting and reporting are in none of them."
    )
    return Section(f"{options.streams} streams, TTFT 50 ms, tokens 10 ms apart", found, notes)


def _round(streams: int, itl_sample: str, tokens: int, each: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-steps-") as name:
        written = Path(name) / "steps.json"
        setup = Setup(itl_sample, warmup=0, locustfile=_TIMED, environment={"BENCH_STEPS": str(written)})
        run = observe(Load(streams, requests=each * streams, tokens=tokens), setup)
        spent: dict[str, int] = json.loads(written.read_text())
    steps = {f"{step}, us": ns / 1000 / len(run.records) for step, ns in spent.items()}
    return steps | {"all of these, us": sum(steps.values())}

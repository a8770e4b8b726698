"""What live figures, histograms and reports cost our client for each request, by running it with them and without."""

import argparse
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures, Section
from benchmarks.ours import CHAT, peer_of
from benchmarks.peers import measure as peers
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds

_WITHOUT = Path(__file__).with_name("locustfiles") / "without_statistics.py"
_CASES = {"token by token": ("1", 4, 12), "lazily": ("0", 4, 12)}
"""Share read token by token, and requests of a stream in the short and in the long run."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=256, help="number of concurrent streams")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {name: partial(_round, options.streams, *case) for name, case in _CASES.items()}
    found, notes = run_rounds(cases, options.rounds)
    notes.append("User and system time of the client's process, the slope between a short and a long run, in turn.")
    return Section(f"{options.streams} streams, TTFT 50 ms, 128 tokens 10 ms apart", found, notes)


def _round(streams: int, itl_sample: str, short: int, long: int) -> Figures:
    on, off = (
        peers.cost(
            peer_of("loadgen", itl_sample, warmup=0, locustfile=file), Load(streams), streams * short, streams * long
        ).value
        * Load(streams).tokens
        for file in (CHAT, _WITHOUT)
    )
    return {"with, CPU us per request": on, "without": off, "of it": (on - off) / on}

"""What a token costs our client in CPU time: token by token, and drained lazily, where long answers are cheap."""

import argparse
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures, Section
from benchmarks.ours import CHAT, OWN_USER, peer_of
from benchmarks.peers import measure as peers
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds

_TOKEN_BY_TOKEN, _LAZILY = "1", "0"
_CASES = {
    "token by token, 128 tokens": (_TOKEN_BY_TOKEN, 128, 4, 12),
    "lazily, 128 tokens": (_LAZILY, 128, 4, 12),
    "lazily, 512 tokens": (_LAZILY, 512, 1, 3),
    "lazily, 2,048 tokens": (_LAZILY, 2048, 1, 2),
}
"""Share read token by token, tokens, and requests of a stream in the short and in the long run."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=256, help="number of concurrent streams")
    parser.add_argument("--user", action="store_true", help="compare chat.py with users who hold a conversation")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {name: partial(_round, CHAT, options.streams, *case) for name, case in _CASES.items()}
    if options.user:
        own = {f"{name}, own users": partial(_round, OWN_USER, options.streams, *_CASES[name]) for name in _CASES}
        cases = dict(pair for both in zip(cases.items(), own.items(), strict=True) for pair in both)
    found, notes = run_rounds(cases, options.rounds)
    notes.append(
        "User and system time of the client's processes, the slope between a short and a long run: what starting and "
        "reporting cost is out."
    )
    return Section(f"{options.streams} streams, TTFT 50 ms, tokens 10 ms apart", found, notes)


def _round(locustfile: Path, streams: int, itl_sample: str, tokens: int, short: int, long: int) -> Figures:
    # Without a warm-up: one of 2,048 tokens would take 20 s, and both runs start cold.
    slope = peers.cost(
        peer_of("loadgen", itl_sample, 0, locustfile), Load(streams, tokens=tokens), *_of(streams, short, long)
    )
    return {
        "CPU-s per million tokens": slope.value,
        "CPU, us per answer": slope.value * tokens,
        "held at once, by the server's log": slope.long.held,
    }


def _of(streams: int, short: int, long: int) -> tuple[int, int]:
    return streams * short, streams * long

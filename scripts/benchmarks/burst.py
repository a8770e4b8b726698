"""All streams started at one instant, and a client whose loop is held up: what is still known, and to what width."""

import argparse
from functools import partial
from pathlib import Path

from benchmarks import arrivals, server
from benchmarks.figures import Figures, Section, spread
from benchmarks.ours import CHAT, Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.measure.truth import errors

_HOG = Path(__file__).with_name("locustfiles") / "hog.py"
_EACH = 2
"""Requests of a stream."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=1024, help="number of concurrent streams")
    parser.add_argument("--itl-sample", default="auto", help="as chat.py has it")


def measure(options: argparse.Namespace) -> Section:
    """Run both cases."""
    findings: set[str] = set()
    cases = {
        f"{options.streams:,} at once{what}": partial(_round, options, locustfile, what, findings)
        for what, locustfile in (("", CHAT), (", loop held up 30 of 60 ms", _HOG))
    }
    found, notes = run_rounds(cases, options.rounds)
    notes.append(arrivals.NOTE)
    return Section("All starts at one instant, 128 tokens", found, [*notes, *sorted(findings)])


def _round(options: argparse.Namespace, locustfile: Path, what: str, findings: set[str]) -> Figures:
    load = Load(options.streams, requests=_EACH * options.streams, spread_s=0.0)
    run = observe(load, Setup(options.itl_sample, locustfile=locustfile))
    findings |= {f"The verdict{what} says: {finding}" for finding in run.findings}
    known = arrivals.of(run.pairs)
    return {
        **spread("first token's interval", [a.width_ms for a in known["first token"]]),
        **arrivals.shares_inside(known),
        **spread("TTFT error", errors(run.ok, run.truths).ttft),
        **server.figures(run),
    }

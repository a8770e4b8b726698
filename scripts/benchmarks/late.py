"""Streams drained lazily, their last token, end mark and close apart: which is which is known, and how well."""

import argparse
from functools import partial

from benchmarks import arrivals, server
from benchmarks.figures import Figures, Section, spread
from benchmarks.options import counts
from benchmarks.ours import Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.engines.simulated.script import Script

_SCRIPT = Script(done_ms=30.0, close_ms=50.0)
_EACH = 6
"""Requests of a stream."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=counts, default="64,256", help="numbers of concurrent streams")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {f"{streams} streams": partial(_round, int(streams)) for streams in options.streams.split(",")}
    found, notes = run_rounds(cases, options.rounds)
    return Section(
        f"--itl-sample 0, 128 tokens, [DONE] {_SCRIPT.done_ms:g} ms after the last, close {_SCRIPT.close_ms:g} ms on",
        found,
        [*notes, arrivals.NOTE],
    )


def _round(streams: int) -> Figures:
    run = observe(Load(streams, requests=_EACH * streams), Setup("0", script=_SCRIPT))
    known = arrivals.of([(r, truth) for r, truth in run.pairs if r.lazy])
    return {
        "drained lazily, %": 100 * len(known["end"]) / len(run.ok),
        **arrivals.shares_inside(known),
        **spread("last token's interval", [a.width_ms for a in known["last token"]]),
        **spread("end's interval", [a.width_ms for a in known["end"]]),
        **spread("last token, recorded minus true,", [a.late_ms for a in known["last token"]]),
        **spread("end, recorded minus true,", [a.late_ms for a in known["end"]]),
        **server.figures(run),
    }

"""Ten thousand streams in one process: are they held, how exact are their first tokens, what memory does one take."""

import argparse
from functools import partial

from benchmarks import server
from benchmarks.figures import Figures, Section, spread
from benchmarks.ours import Run, Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.engines.simulated.script import Script
from loadgen.measure.truth import errors

_TOKENS = 60
_SCRIPT = Script(ttft_ms=5000.0, itl_ms=100.0)
_SPREAD_S = 5.0
"""Starts of all streams; each lasts 11 s, so that all are there at once."""
_WARMUP = 5
_ALL_READ = "1"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=10_000, help="concurrent streams, one request each")
    parser.add_argument("--few", type=int, default=1000, help="the other end of the slope of memory")
    parser.add_argument("--itl-sample", default="1,auto", help="as chat.py has it")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {
        f"--itl-sample {itl_sample}": partial(_round, options.streams, options.few, itl_sample)
        for itl_sample in options.itl_sample.split(",")
    }
    found, notes = run_rounds(cases, options.rounds)
    notes.append(
        f"Memory: peak of what is resident of the client, the slope between {options.few:,} and {options.streams:,} "
        "streams of one request each, records included. What a stream that is read token by token has received is "
        "kept until its end and is memory of ours; of one drained lazily it waits in the kernel."
    )
    return Section(f"{options.streams:,} streams, TTFT 5 s, {_TOKENS} tokens 100 ms apart", found, notes)


def _round(streams: int, few: int, itl_sample: str) -> Figures:
    low, high = _run(few, itl_sample), _run(streams, itl_sample)
    slope = (high.usage.peak_bytes - low.usage.peak_bytes) / (streams - few)
    received = server.answer_bytes(_SCRIPT, _TOKENS)
    less = {"the same less the bytes received, KB": (slope - received) / 1e3} if itl_sample == _ALL_READ else {}
    return {
        "complete answers": len(high.ok),
        **spread("TTFT error", errors(high.ok, high.truths).ttft),
        "memory per stream, KB": slope / 1e3,
        **less,
        "bytes received per stream, KB": received / 1e3,
        "peak memory, MB": high.usage.peak_bytes / 1e6,
        **server.figures(high),
    }


def _run(streams: int, itl_sample: str) -> Run:
    load = Load(streams, requests=streams, tokens=_TOKENS, spread_s=_SPREAD_S)
    return observe(load, Setup(itl_sample, warmup=_WARMUP, script=_SCRIPT))

"""How far our times are from the server's, at a pace: first token, gaps, time per token, throughput."""

import argparse
import statistics
from dataclasses import replace
from functools import partial

from benchmarks import server
from benchmarks.figures import Figures, Section, p99, spread
from benchmarks.options import counts
from benchmarks.ours import OWN_USER, SPREAD_S, Run, Setup, observe
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.clock import MS, SECOND
from loadgen.engines.simulated.script import Script
from loadgen.measure.truth import errors
from loadgen.record import RequestRecord

_EACH = 6
"""Requests of a stream."""
_ALL_READ = 256
"""Streams up to which each is read token by token, unless --itl-sample says otherwise."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=counts, default="64,256,1024", help="numbers of concurrent streams")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--itl-sample", help=f"as chat.py has it; by default 1 up to {_ALL_READ} streams, then auto")
    parser.add_argument("--user", action="store_true", help="compare chat.py with users who hold a conversation")
    parser.add_argument("--ttft-ms", type=float, default=50.0)
    parser.add_argument("--itl-ms", type=float, default=10.0)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    script = Script(ttft_ms=options.ttft_ms, itl_ms=options.itl_ms)
    cases = {}
    for streams in map(int, options.streams.split(",")):
        itl_sample = options.itl_sample or ("1" if streams <= _ALL_READ else "auto")
        load = Load(streams=streams, requests=_EACH * streams, tokens=options.tokens)
        name, setup = f"{streams} streams, --itl-sample {itl_sample}", Setup(itl_sample, script=script)
        cases[name] = partial(_round, load, setup)
        if options.user:
            cases[f"{name}, own users"] = partial(_round, load, replace(setup, locustfile=OWN_USER))
    found, notes = run_rounds(cases, options.rounds)
    notes += (
        "Errors are arrival by the record minus send by the server's log; of gaps and times per token without sign.",
        (
            "Requests/min is by Little's law, mean number in flight over mean round trip, while all streams were at "
            "work: no answer is cut by an edge. Ideal is streams over the script's round trip."
        ),
    )
    return Section(f"TTFT {options.ttft_ms:g} ms, {options.tokens} tokens {options.itl_ms:g} ms apart", found, notes)


def _round(load: Load, setup: Setup) -> Figures:
    return figures(observe(load, setup))


def figures(run: Run) -> Figures:
    """Return how exact a run was, and how busy both sides were."""
    off = errors(run.ok, run.truths)
    way = [(truth.received_ns - (r.sent_ns or 0)) / MS for r, truth in run.pairs]
    return {
        **spread("TTFT error", off.ttft),
        **p99("ITL error", off.itl),
        **p99("TPOT error, read token by token,", errors([r for r in run.ok if not r.lazy], run.truths).tpot),
        **p99("TPOT error, drained lazily,", errors([r for r in run.ok if r.lazy], run.truths).tpot),
        **p99("widest interval of a request", off.intervals),
        "requests outside an interval": off.outside,
        **p99("from sent to received by the server", way),
        **_throughput(run),
        "drained lazily, %": 100 * statistics.fmean(r.lazy for r in run.ok),
        **_client_cpu(run),
        **server.figures(run),
    }


def _throughput(run: Run) -> dict[str, float]:
    """Return requests per minute against what the script allows; nothing where no request was sent after the ramp."""
    start = min(r.sent_ns or 0 for r in run.ok) + int(SPREAD_S * SECOND)
    end = max(r.sent_ns or 0 for r in run.ok)
    trips = [_trip_s(r) for r in run.ok if (r.sent_ns or 0) >= start]
    if not trips or end <= start:
        return {}
    within = (min(end, r.end_ns or 0) - max(start, r.sent_ns or 0) for r in run.ok)
    in_flight = sum(span for span in within if span > 0) / (end - start)
    script, load = run.setup.script, run.load
    ideal = 60 * load.streams / ((script.ttft_ms + (load.tokens - 1) * script.itl_ms) / 1000)
    return {"requests/min by Little's law, % of ideal": 100 * 60 * in_flight / statistics.fmean(trips) / ideal}


def _trip_s(r: RequestRecord) -> float:
    return ((r.end_ns or 0) - (r.sent_ns or 0)) / SECOND


def _client_cpu(run: Run) -> dict[str, float]:
    """Return the share of the measured phase, by the client's own count."""
    used = run.summary["instrument"].get("cpu_seconds")
    span_s = (max(r.end_ns or 0 for r in run.ok) - min(r.sent_ns or 0 for r in run.ok)) / SECOND
    return {} if used is None else {"client CPU, % of its core": 100 * used / span_s}

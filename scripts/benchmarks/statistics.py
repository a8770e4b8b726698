"""What statistics cost our client: for each request, by running it with them and without; and each look at a step."""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figures import Figures, Section
from benchmarks.ours import CHAT, peer_of
from benchmarks.peers import measure as peers
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from benchmarks.simulators.loads import ClosedLoop
from benchmarks.simulators.servers import Pool
from loadgen.clock import SECOND
from loadgen.measure.watch import StepWatch

_WITHOUT = Path(__file__).with_name("locustfiles") / "without_statistics.py"
_CASES = {"token by token": ("1", 4, 12), "lazily": ("0", 4, 12)}
"""Share read token by token, and requests of a stream in the short and in the long run."""
_RECORDS, _STEP_S, _SEED = (900, 9_000, 45_000, 91_000), 60.0, 2026


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--streams", type=int, default=256, help="number of concurrent streams")


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {name: partial(_round, options.streams, *case) for name, case in _CASES.items()}
    looks = {f"look at a step, {records:,} records": partial(_looks, records) for records in _RECORDS}
    found, notes = run_rounds({**cases, **looks}, options.rounds)
    notes.append("User and system time of the client's process, the slope between a short and a long run, in turn.")
    return Section(f"{options.streams} streams, TTFT 50 ms, 128 tokens 10 ms apart", found, notes)


def _looks(records: int) -> Figures:
    """Look twice a second at a step that is never precise enough, and take in what ended meanwhile."""
    users, step_s = 512, _STEP_S
    mean_s = users * step_s / records
    loop = ClosedLoop(Pool(users, mean_s, cv=0.5), np.random.default_rng(_SEED))
    loop.set_users(users, 0.0, min(mean_s, step_s / 6))
    watch = StepWatch(0, int(min(mean_s, step_s / 6) * SECOND), step_s, 1e-6)
    looked, taken = [], []
    for k in range(1, int(2 * step_s)):
        ended = loop.run_until(k / 2)
        began = time.thread_time()
        watch.add(ended)
        taken.append(time.thread_time() - began)
        began = time.thread_time()
        assert watch.look(k * SECOND // 2, loop.settled_ns) is None
        looked.append(time.thread_time() - began)
    longest = sorted(looked)
    return {
        "a look, median ms": 1e3 * longest[len(longest) // 2],
        "p99": 1e3 * longest[int(0.99 * len(longest))],
        "taking in, us a record": 1e6 * sum(taken) / records,
    }


def _round(streams: int, itl_sample: str, short: int, long: int) -> Figures:
    on, off = (
        peers.cost(
            peer_of("loadgen", itl_sample, warmup=0, locustfile=file), Load(streams), streams * short, streams * long
        ).value
        * Load(streams).tokens
        for file in (CHAT, _WITHOUT)
    )
    return {"with, CPU us per request": on, "without": off, "of it": (on - off) / on}

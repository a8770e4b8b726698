"""Intervals of means and percentiles, in simulated queues and loops: how often they hold the truth, or are refused."""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, partial
from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figures, Section
from benchmarks.rounds import run_rounds
from loadgen.clock import SECOND
from loadgen.measure.intervals import distribution_of_series, mean_of_series, narrow_enough
from loadgen.measure.load import Spans, Window, edges_of
from loadgen.measure.statistics import QUANTILES, index_of
from loadgen.measure.steady import steady

Array = NDArray[np.float64]
Interval = tuple[float, float] | None

_LOADS = (0.5, 0.8, 0.9)
"""Arrivals as shares of what the servers can serve."""
_LENGTHS = (1_000, 10_000, 100_000)
"""Requests of a run. At 0.9 of its capacity a queue forgets after about 340."""
_TOLD = ("mean", "p50", "p90", "p99")
_TRUTH_RUNS, _TRUTH_LENGTH, _BEFORE = 20, 1_000_000, 20_000
"""The truth is that of so many runs together; before each run so many requests are served that do not count."""
_NO_MATTER = 0.001
"""Mean service times by which an interval may miss: a queue at half its capacity has a mean wait of less than that, and
most runs see none at all."""

_USERS = 256
_CVS = (0.2, 1.0)
"""Coefficients of variation of service times in closed loops."""
_WINDOWS, _BINS = (10, 20, 50, 100), 200
"""Windows in round trips, each looked at in so many bins."""
_PER_ROUND_TRIP, _LONGEST, _PRECISION = 10, 120, 0.02
"""Stopping by precision: bins in a round trip, round trips at most; it is looked at once a round trip."""

_FEWEST = 20
"""Intervals from which their share that holds the truth is told."""
_SEED = 2026


class Tally:
    """Counts intervals: refused, holding the truth, or not."""

    def __init__(self) -> None:
        self._held: defaultdict[str, list[bool | None]] = defaultdict(list)

    def add(self, name: str, interval: Interval, truth: float, no_matter: float = 0.0) -> None:
        """Count one."""
        held = None if interval is None else interval[0] - no_matter <= truth <= interval[1] + no_matter
        self._held[name].append(held)

    def figures(self) -> Figures:
        """Return shares of all runs, and, of enough intervals, the share that holds the truth."""
        found: dict[str, float] = {}
        for name, held in self._held.items():
            printed = [h for h in held if h is not None]
            found[f"{name}: refused, %"] = 100 * (1 - len(printed) / len(held))
            found[f"{name}: printed and wrong, %"] = 100 * printed.count(False) / len(held)
            if len(printed) >= _FEWEST:
                found[f"{name}: of those printed hold the truth, %"] = 100 * printed.count(True) / len(printed)
        return found


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--runs", type=int, default=200, help="simulated runs of each case in a round")
    parser.add_argument("--servers", type=int, default=32, help="servers of the queues")
    parser.add_argument("--longest", type=int, default=_LENGTHS[-1], help="longest run of a queue, requests")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    seeds = iter(np.random.SeedSequence(_SEED).spawn(options.rounds * (len(_LOADS) + len(_CVS))))
    queues = {f"queue at {load}": partial(_queue, seeds, options, load) for load in _LOADS}
    loops = {f"loop, CV {cv:g}": partial(_loop, seeds, options.runs, cv) for cv in _CVS}
    found, failures = run_rounds({**queues, **loops}, options.rounds)
    title = (
        f"{options.runs} runs a case: queues FCFS M/G/{options.servers}, loops of {_USERS} users; lognormal service, "
        "of the queues with CV 1; nominal 95 %"
    )
    part = "" if options.servers == 32 else f"of {options.servers} servers"  # noqa: PLR2004 the default
    return Section(title, found, [*failures, *_notes()], part)


def _notes() -> list[str]:
    return [
        "E2E is wait and service. Wrong: the interval misses the truth by more than 0.001 mean service times.",
        f"Told of {_FEWEST} printed and more. If 95 in 100 hold the truth, 92 to 98 in 100 do so of 200.",
        "The queues forget after about 6, 72 and 342 requests: 1,000 requests at 0.9 are 3 of its relaxation times.",
        "What a run has not seen its interval cannot hold. Printed where most are refused: the queue stayed short.",
        f"Stopping: looked at once a round trip until the mean is known to {100 * _PRECISION:g} %.",
    ]


def _queue(seeds: Iterator[np.random.SeedSequence], options: argparse.Namespace, load: float) -> Figures:
    rng = np.random.default_rng(next(seeds))
    lengths = [n for n in _LENGTHS if n <= options.longest]
    truths = _truth(options.servers, load, _TRUTH_LENGTH if lengths[-1] == _LENGTHS[-1] else 10 * lengths[-1])
    tally = Tally()
    for _ in range(options.runs):
        series = _series(rng, options.servers, load, lengths[-1])
        for n in lengths:
            for name, values in series.items():
                intervals = distribution_of_series(values[:n])["ci95"]
                for what in _TOLD:
                    truth = truths[name][what]
                    tally.add(f"{n:,} requests, {name} {what}", intervals.get(what), truth, _NO_MATTER)
    return tally.figures()


@cache
def _truth(servers: int, load: float, length: int) -> Mapping[str, Mapping[str, float]]:
    rng = np.random.default_rng(_SEED + 1)
    runs = [_series(rng, servers, load, length) for _ in range(_TRUTH_RUNS)]
    return {name: _exact(np.concatenate([run[name] for run in runs])) for name in runs[0]}


def _exact(values: Array) -> Mapping[str, float]:
    values.sort()
    return {"mean": float(values.mean())} | {
        name: float(values[index_of(len(values), quantile)]) for name, quantile in QUANTILES.items()
    }


def _series(rng: np.random.Generator, servers: int, load: float, n: int) -> Mapping[str, Array]:
    """Return the times of n requests in the order of arrival, in mean service times; the queue is in its steady state.

    First come, first served: a request begins when it has come and the first of the servers is free.
    """
    sigma = np.sqrt(np.log(2))  # CV 1
    service = rng.lognormal(-(sigma**2) / 2, sigma, _BEFORE + n)
    arrival = np.cumsum(rng.exponential(1 / (servers * load), _BEFORE + n))
    free, begun = [0.0] * servers, []
    for at, takes in zip(arrival.tolist(), service.tolist(), strict=True):
        begins = max(free[0], at)
        heapreplace(free, begins + takes)
        begun.append(begins)
    wait = (np.array(begun) - arrival)[_BEFORE:]
    return {"wait": wait, "E2E": wait + service[_BEFORE:]}


def _loop(seeds: Iterator[np.random.SeedSequence], runs: int, cv: float) -> Figures:
    rng = np.random.default_rng(next(seeds))
    tally, unsteady = Tally(), dict.fromkeys(_WINDOWS, 0)
    ends: list[tuple[int, float]] = []
    for _ in range(runs):
        spans = _closed(rng, cv, _LONGEST)
        for window in _WINDOWS:
            served = _served(spans, window, _BINS)
            estimate = mean_of_series(served)
            tally.add(f"{window} round trips, throughput", None if estimate is None else estimate.ci95, _USERS)
            unsteady[window] += steady({"requests": served}).unsteady is not None
        ends += _stop(_served(spans, _LONGEST, _LONGEST * _PER_ROUND_TRIP), tally)
    return {
        **tally.figures(),
        **{f"{window} round trips, called unsteady, %": 100 * n / runs for window, n in unsteady.items()},
        **({"stopping, median round trips": float(np.median([at for at, _ in ends]))} if ends else {}),
        **({"stopping, true error above 2 %, %": 100 * _share_above(ends)} if len(ends) >= _FEWEST else {}),
    }


def _stop(served: Array, tally: Tally) -> list[tuple[int, float]]:
    """Look once a round trip until it is narrow enough; return when, and how wrong the mean is; nothing if never."""
    for trips in range(5, _LONGEST + 1):
        so_far = served[: trips * _PER_ROUND_TRIP]
        if narrow_enough(so_far, _PRECISION):
            estimate = mean_of_series(so_far)
            assert estimate is not None
            tally.add("stopping, throughput", estimate.ci95, _USERS)
            return [(trips, abs(estimate.value / _USERS - 1))]
    tally.add("stopping, throughput", None, _USERS)
    return []


def _share_above(ends: list[tuple[int, float]]) -> float:
    return sum(error > _PRECISION for _, error in ends) / len(ends)


def _served(spans: Spans, trips: int, bins: int) -> Array:
    """Return what was served in each bin of a window, per mean service time."""
    width = trips * SECOND // bins
    return spans.answers_served(edges_of(Window(0, bins * width), width)) * SECOND / width


def _closed(rng: np.random.Generator, cv: float, trips: int) -> Spans:
    """Return the requests of a closed loop, one after another from each user; a second is a mean service time.

    Times before 0 are the beginning, in which users leave the step in which they started.
    """
    before, spare = 20, 40
    sigma = np.sqrt(np.log(1 + cv**2))
    service = rng.lognormal(-(sigma**2) / 2, sigma, (_USERS, int(1.3 * (before + trips)) + spare))
    end = np.cumsum(service, axis=1) - before
    sent = end - service
    within = (end > 0) & (sent < trips)
    ones = np.ones(int(within.sum()))
    begun, ended = ((at[within] * SECOND).astype(np.int64) for at in (sent, end))
    return Spans(begun, begun, ended, ones, ones)

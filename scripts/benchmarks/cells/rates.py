"""Open loops: latencies and throughput of a schedule of so many requests."""

from collections.abc import Mapping, Sequence
from functools import cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.cells.cell import Cell
from benchmarks.cells.systems import HEAVY, MARKOVIAN, MODERATE, System, batching
from benchmarks.simulators import truths
from benchmarks.simulators.loads import open_loop
from benchmarks.simulators.servers import Model, Request
from loadgen.clock import MS, SECOND
from loadgen.measure.facts import Arrivals
from loadgen.measure.statistics import QUANTILES, Distribution, index_of
from loadgen.record import RequestRecord
from loadgen.results.rate import rate, window_of
from loadgen.results.steps import NO_FIGURE
from loadgen.results.summary_schema import Rate

SYSTEMS: Mapping[str, System] = {
    "M/M/16": MARKOVIAN,
    "M/G/16 CV 1": MODERATE,
    "M/G/32 CV 2": HEAVY,
    "batching 16 CV 1": batching(16, 1.0),
}
LOADS = (0.5, 0.8, 0.9)
"""Arrivals by what can be served."""
LENGTHS = (30, 100, 300, 1_000, 10_000)
"""Requests of a schedule."""
TOLD = ("mean", "p50", "p90", "p99")
NO_MATTER = 0.001
"""Mean service times by which an interval may miss: at half its capacity a queue has a mean wait of less than that, and
most runs see none at all."""

TRUTH_REQUESTS = 1_000_000
"""Of the run that tells the truth: a queue of 32 servers at 0.9 with CV 2 forgets after some 850."""
_BEFORE = 20_000
_SEED = 2027

Times = Mapping[str, NDArray[np.float64]]


def measured(name: str, load: float, n: int, runs: int, rng: np.random.Generator) -> Mapping[str, Cell]:
    """Play schedules of n requests."""
    system = SYSTEMS[name]
    per_second = load * capacity(system)
    truth = truth_of(system.model, per_second, TRUTH_REQUESTS)
    service_ms = 1e3 * system.round_trip_s
    cells: dict[str, Cell] = {}
    for _ in range(runs):
        found = _rate(system.model, per_second, n, rng)
        more = {"unsteady": found.unsteady is not None, "undecided": found.undecided is not None}
        for metric, values in truth.items():
            of = found.latency_from_schedule.get(metric, Distribution(n=0))
            for what in TOLD:
                cell = cells.setdefault(f"{metric} {what}", Cell(NO_MATTER * service_ms))
                cell.add(of.percentile(what), of.interval(what), values[what], **more)
        requests = found.requests_per_minute or NO_FIGURE
        cells.setdefault("requests/min", Cell()).add(requests.value, requests.ci95, 60 * per_second, **more)
    return cells


def capacity(system: System) -> float:
    """Return the most requests/s."""
    return truths.throughput(system.model, 4 * system.at_once)


@cache
def truth_of(model: Model, per_second: float, requests: int) -> Mapping[str, Mapping[str, float]]:
    """Return the figures of TTFT and E2E, ms, of one long run."""
    rng = np.random.default_rng(_SEED)
    due = np.cumsum(rng.exponential(SECOND / per_second, _BEFORE + requests)).astype(np.int64)
    server, asked = model.begin(rng), []
    for index, at in enumerate(due.tolist()):
        while (next_at := server.due) is not None and next_at <= at:
            server.proceed()
        asked.append(request := Request(index, at))
        server.submit(request, at)
    while server.due is not None:
        server.proceed()
    first, ended = (np.array([getattr(r, what) for r in asked[_BEFORE:]]) for what in ("first", "ended"))
    return {"ttft_ms": _exact((first - due[_BEFORE:]) / MS), "e2e_ms": _exact((ended - due[_BEFORE:]) / MS)}


def _exact(values: NDArray[np.float64]) -> Mapping[str, float]:
    values.sort()
    quantiles = {name: float(values[index_of(len(values), quantile)]) for name, quantile in QUANTILES.items()}
    return {"mean": float(values.mean())} | quantiles


def _rate(model: Model, per_second: float, n: int, rng: np.random.Generator) -> Rate:
    times = np.cumsum(rng.exponential(SECOND / per_second, n)).astype(np.int64)
    return figures(open_loop(model, times, rng), per_second)


def figures(records: Sequence[RequestRecord], per_second: float) -> Rate:
    """Return the figures of an open loop, in its own window."""
    asked = Arrivals(process="poisson", rate=per_second, cv=1.0, max_in_flight=1024, epoch_ns=0)
    window, state = window_of(asked, records)
    span = None if window is None else (window.start, window.end)
    looked_at = msgspec.structs.replace(asked, window_ns=span, unsteady=state.unsteady, undecided=state.undecided)
    return rate(looked_at, records, None)

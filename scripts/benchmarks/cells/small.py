"""Few answers: the speed of one user from a handful of them, and throughput of windows of a few round trips."""

from collections.abc import Mapping
from functools import cache

import numpy as np

from benchmarks.cells.cell import Cell
from benchmarks.cells.speeds import ANSWER_S, answers, one_user, truth
from benchmarks.cells.systems import HEAVY, MARKOVIAN, TOKENS, System, batching, mean_tokens
from benchmarks.simulators import runs as simulated
from benchmarks.simulators.loads import ClosedLoop
from benchmarks.simulators.servers import Batching, Model, Pool
from benchmarks.simulators.speeds import Wandering
from loadgen.clock import MS, SECOND
from loadgen.engines.simulated.batching import PROFILES
from loadgen.measure.load import Window, full_window
from loadgen.measure.records import Records
from loadgen.measure.statistics import percentile
from loadgen.record import RequestRecord
from loadgen.results.steps import NO_FIGURE, of_those_sent, served
from loadgen.results.summary import summarise

ANSWERS = (2, 3, 5, 10, 30)
ONE_USER: Mapping[str, Model] = {
    "lengths all the same": one_user(0.0),
    "lengths of CV 0.5": one_user(0.5),
    "lengths of CV 1": one_user(1.0),
    "lengths of CV 2": one_user(2.0),
    "exponential round trips": Pool(1, ANSWER_S, exponential=True),
    "lengths of CV 1, it wanders by 5 %": Wandering(one_user(1.0), 0.05, 20 * ANSWER_S),
    "lengths all the same, it wanders by 5 %": Wandering(one_user(0.0), 0.05, 20 * ANSWER_S),
}
FIGURES = {"mean": "tokens_per_second_mean", "total": "tokens_per_second_total"}

TRIPS = (3, 5, 10, 15)
USERS = (1, 4, 16, 64)
ROUND_TRIP_S = 3.0
"""Of as many users as are served at once; an engine that wanders forgets its pace in 10 s."""
PREFILL_BOUND = PROFILES["prefill-bound"]
SYSTEMS: Mapping[str, tuple[System, float]] = {
    "D/16": (System(Pool(16, 1.0, cv=0.0), 16), 0.0),
    "M/M/16": (MARKOVIAN, 0.0),
    "M/G/32 CV 2": (HEAVY, 0.0),
    "batching 16": (batching(16, 0.0), 0.0),
    "batching 16 CV 0.5": (batching(16, 0.5), 0.0),
    "batching 16 CV 1": (batching(16, 1.0), 0.0),
    "batching 16 CV 2": (batching(16, 2.0), 0.0),
    "batching without a limit CV 1": (batching(None, 1.0), 0.0),
    "prefill-bound CV 1": (System(Batching(PREFILL_BOUND, TOKENS, cv=1.0), 16), 0.0),
    "wandering batching 16": (batching(16, 0.0), 0.05),
    "wandering batching 16 CV 1": (batching(16, 1.0), 0.05),
}
"""Each with the share by which its speed wanders."""
_NO_MATTER = 1e-4
"""Share of the truth by which an interval may miss it: the simulated truth is known no better."""
TRUTH_TRIPS = 2_000
_SEED = 2029


def of_one_user(name: str, n: int, runs: int, rng: np.random.Generator) -> Mapping[str, Cell]:
    """Play runs of n answers to one user."""
    model = ONE_USER[name]
    exact = dict(truth(model))
    of_pool = isinstance(model, Pool)  # as many tokens a second in each of its answers
    cells = {} if of_pool else {figure: Cell(_NO_MATTER * exact[figure]) for figure in FIGURES}
    cells["requests/min"] = Cell(_NO_MATTER * exact["requests/min"])
    for _ in range(runs):
        records = answers(model, n, rng)
        speed = None if of_pool else summarise(simulated.speed(records), records).speed
        for figure in cells.keys() & FIGURES.keys():
            found = getattr(speed, FIGURES[figure])
            cells[figure].add(found.value, found.ci95, exact[figure])
        window = full_window(records, 1)
        assert window is not None
        requests = served(window, records).requests_per_minute or NO_FIGURE
        cells["requests/min"].add(requests.value, requests.ci95, exact["requests/min"])
    return cells


def of_several(name: str, users: int, trips: int, runs: int, rng: np.random.Generator) -> Mapping[str, Cell]:
    """Play windows of some round trips, which begin one round trip after the users did."""
    system, wandering = SYSTEMS[name]
    slow = system.slowed(ROUND_TRIP_S).model
    model: Model = Wandering(slow, wandering) if wandering else slow
    per_second = system.throughput(users, ROUND_TRIP_S)
    trip_s = users / per_second
    exact = {"requests/min": 60 * per_second, "tokens/s": mean_tokens(model) * per_second}
    exact["E2E p50"] = _median_ms(slow, users, trip_s)
    cells = {figure: Cell(_NO_MATTER * value) for figure, value in exact.items()}
    for _ in range(runs):
        records, window = _window(model, users, trip_s, trips, rng)
        of = served(window, records)
        e2e = of_those_sent(window, Records.of(records), None)["latency"]["e2e_ms"]
        requests = of.requests_per_minute or NO_FIGURE
        found = {
            "requests/min": (requests.value, requests.ci95),
            "tokens/s": (of.output_tokens_per_second, of.output_tokens_per_second_ci95),
            "E2E p50": (e2e.p50, e2e.interval("p50")),
        }
        for figure, (value, ci95) in found.items():
            cells[figure].add(value, ci95, exact[figure], answers=of.answers or 0.0)
    return cells


def _window(
    model: Model, users: int, trip_s: float, trips: int, rng: np.random.Generator
) -> tuple[list[RequestRecord], Window]:
    """Return the window, and all requests that were in flight in it."""
    loop = ClosedLoop(model, rng)
    loop.set_users(users, 0.0, trip_s)
    window = Window(round(trip_s * SECOND), round((1 + trips) * trip_s * SECOND))
    records = loop.run_until(window.end / SECOND)
    while loop.settled_ns < window.end:
        records += loop.run_until(loop.now_ns / SECOND + trip_s)
    return [r for r in records if (r.end_ns or 0) > window.start], window


@cache
def _median_ms(model: Model, users: int, trip_s: float) -> float:
    """Return the median round trip, ms, of one long run."""
    loop = ClosedLoop(model, np.random.default_rng(_SEED))
    loop.set_users(users, 0.0, trip_s)
    loop.run_until(20 * trip_s)
    records = loop.run_until((20 + max(100, TRUTH_TRIPS * 16 // users)) * trip_s)
    return percentile([((r.end_ns or 0) - (r.sent_ns or 0)) / MS for r in records], 0.5)

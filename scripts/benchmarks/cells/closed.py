"""Closed loops: one step of the load, watched as in a sweep, and what its window gives."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from benchmarks.cells.cell import Cell
from benchmarks.cells.systems import HEAVY, MARKOVIAN, System, batching, mean_tokens
from benchmarks.simulators.loads import ClosedLoop
from benchmarks.simulators.servers import Model
from loadgen.clock import SECOND
from loadgen.measure.statistics import Estimate
from loadgen.measure.watch import StepWatch, StepWindow
from loadgen.record import RequestRecord
from loadgen.results.steps import NO_FIGURE, served
from loadgen.run.load.sweep import MOST_WAIT

STEP_S, PRECISION = 60.0, 0.02
"""The defaults of a sweep."""
LOOK_S = 0.5
"""How often a step is looked at."""
SPREAD = 1 / 6
"""Of a step's time: starts are spread over it at most."""

SYSTEMS: Mapping[str, System] = {
    "M/M/16": MARKOVIAN,
    "M/G/32 CV 2": HEAVY,
    "batching 16 CV 2": batching(16, 2.0),
    "batching without a limit CV 2": batching(None, 2.0),
}
USERS = (0.5, 1.0, 2.0, 8.0)
"""By what is served at once."""
ROUND_TRIPS_S = (0.5, 3.0, 9.0)

Figure = tuple[float | None, Sequence[float] | None, float]
"""Value, interval and truth."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a step finds; times in ns."""

    now: int
    settled: int
    """Up to then all has ended that was sent."""
    ended: Sequence[RequestRecord]


@dataclass(frozen=True, slots=True)
class Played:
    """A step that has ended."""

    found: StepWindow | None
    """None where it was broken off."""
    lasted_s: float
    records: Sequence[RequestRecord]


@dataclass(frozen=True, slots=True)
class Load:
    """One cell's load."""

    system: System
    users: float
    round_trip_s: float

    @property
    def concurrency(self) -> int:
        """Users."""
        return round(self.users * self.system.at_once)

    @property
    def truth(self) -> float:
        """Requests/s."""
        return self.system.throughput(self.concurrency, self.round_trip_s)


def loads(
    systems: Sequence[str] = tuple(SYSTEMS),
    users: Sequence[float] = USERS,
    round_trips_s: Sequence[float] = ROUND_TRIPS_S,
) -> Mapping[str, Load]:
    """Return the loads by name."""
    return {
        f"{name}, {round_trip_s:g} s, {times:g}x users": Load(SYSTEMS[name], times, round_trip_s)
        for name in systems
        for round_trip_s in round_trips_s
        for times in users
    }


def measured(load: Load, runs: int, rng: np.random.Generator) -> Mapping[str, Cell]:
    """Play it; return the cell of each figure, of steps as they come and of those that are given time."""
    model = load.system.slowed(load.round_trip_s).model
    cells: dict[str, Cell] = {}
    for _ in range(runs):
        for how, played in zip(("", ", given time"), plays(model, load, rng), strict=True):
            for figure, (value, ci95, truth) in _figures(played, load.truth, mean_tokens(model)).items():
                cells.setdefault(f"{figure}{how}", Cell()).add(value, ci95, truth, **_more(played))
    return cells


def plays(model: Model, load: Load, rng: np.random.Generator) -> Iterator[Played]:
    """Play a step; yield it as the first of a sweep, then as one that is to tell whether throughput still grew.

    The two are looked at alike but for whether they are complete, which is asked from the end of their time on: what
    has an interval is the same in both.
    """
    spread_s = min(load.round_trip_s, SPREAD * STEP_S)
    loop = ClosedLoop(model, rng)
    loop.set_users(load.concurrency, 0.0, spread_s)
    full = round(spread_s * SECOND)
    alone, looks = _watched(StepWatch(0, full, STEP_S, PRECISION), _looks(loop))
    yield alone
    if alone.found is not None and _has_interval(alone.found):
        yield alone
        return
    truth = 60 * load.truth
    watch = StepWatch(0, full, STEP_S, PRECISION, Estimate(truth, (0.99 * truth, 1.01 * truth), 0))
    yield _watched(watch, chain([_put_together(looks)], _looks(loop)))[0]


def _looks(loop: ClosedLoop) -> Iterator[Look]:
    while loop.now_ns < MOST_WAIT * STEP_S * SECOND:
        ended = loop.run_until(loop.now_ns / SECOND + LOOK_S)
        yield Look(loop.now_ns, loop.settled_ns, ended)


def _put_together(looks: Sequence[Look]) -> Look:
    return replace(looks[-1], ended=[r for look in looks for r in look.ended])


def _watched(watch: StepWatch, looks: Iterable[Look]) -> tuple[Played, Sequence[Look]]:
    """Watch a step to its end; return it and all looks at it."""
    found, seen = None, []
    for look in looks:
        seen.append(look)
        watch.add(look.ended)
        found = watch.look(look.now, look.settled)
        if found is not None:
            break
    return Played(found, seen[-1].now / SECOND, _put_together(seen).ended), seen


def _figures(played: Played, truth: float, tokens: float) -> Mapping[str, Figure]:
    """Return value, interval and truth of each figure."""
    if played.found is None:
        return {"requests/min": (None, None, 60 * truth), "tokens/s": (None, None, tokens * truth)}
    of = served(played.found.window, played.records)
    requests = of.requests_per_minute or NO_FIGURE
    return {
        "requests/min": (requests.value, requests.ci95, 60 * truth),
        "tokens/s": (of.output_tokens_per_second, of.output_tokens_per_second_ci95, tokens * truth),
    }


def _has_interval(found: StepWindow) -> bool:
    estimate = found.requests_per_minute
    return found.counts and estimate is not None and estimate.ci95 is not None


def _more(played: Played) -> Mapping[str, float]:
    found = played.found
    return {
        "unsteady": found is None or found.unsteady is not None,
        "undecided": found is not None and found.unsteady is None and found.undecided is not None,
        "lasted_s": played.lasted_s,
    }

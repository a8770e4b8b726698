"""Whole sweeps, as :class:`loadgen.run.load.sweep.Sweep` plays them: how good the headline and the knee are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from msgspec.structs import asdict

from benchmarks.cells.cell import Cell
from benchmarks.cells.closed import LOOK_S, PRECISION, SPREAD, STEP_S
from benchmarks.cells.systems import MARKOVIAN, System, batching
from benchmarks.simulators.loads import ClosedLoop
from benchmarks.simulators.servers import Model
from benchmarks.simulators.speeds import Wandering
from loadgen.clock import SECOND
from loadgen.measure.doubling import DoublingSteps, StepPolicy
from loadgen.measure.facts import StepFacts
from loadgen.measure.verdict import Verdict
from loadgen.measure.watch import StepWatch, StepWindow
from loadgen.record import RequestRecord
from loadgen.results.steps import NO_FIGURE, served, throughput
from loadgen.results.summary_schema import StepSummary, ThroughputSummary
from loadgen.run.load.sweep import MOST_WAIT

SWEEPS: Mapping[str, tuple[System, float, float]] = {
    "batching 16 CV 1, 3 s": (batching(16, 1.0), 3.0, 0.0),
    "batching 16 CV 2, 0.5 s": (batching(16, 2.0), 0.5, 0.0),
    "batching 128 CV 1, 9 s": (batching(128, 1.0), 9.0, 0.0),
    "M/M/16, 3 s": (MARKOVIAN, 3.0, 0.0),
    "wandering batching 16 CV 1, 3 s": (batching(16, 1.0), 3.0, 0.05),
}
"""A server, its round trip, and by how much its speed wanders."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has noted."""

    facts: Sequence[StepFacts]
    records: Sequence[RequestRecord]
    seconds: float
    headline: ThroughputSummary


def measured(name: str, runs: int, rng: np.random.Generator) -> Mapping[str, Cell]:
    """Play a sweep again and again."""
    system, round_trip_s, wandering = SWEEPS[name]
    slow = system.slowed(round_trip_s).model
    model: Model = Wandering(slow, wandering) if wandering else slow
    truth = 60 * system.throughput(4 * system.at_once, round_trip_s)
    cell, worst = Cell(), 0.0
    for _ in range(runs):
        sweep = play(model, DoublingSteps(), rng)
        found = sweep.headline.requests_per_minute or NO_FIGURE
        worst = max(worst, abs((found.value or 0) / truth - 1))
        knee = sweep.headline.knee
        more = {"knee_s_bracket_is_right": _is_right(knee.between, system.at_once)} if knee else {}
        cell.add(
            found.value,
            found.ci95,
            truth,
            worst_error=100 * worst,
            knee=knee is not None,
            steps=len(sweep.facts),
            lasted_s=sweep.seconds,
            **more,
        )
    return {"headline": cell}


def play(model: Model, plan: StepPolicy, rng: np.random.Generator, step_s: float = STEP_S) -> Sweep:
    """Play a ramp on virtual time, and drain."""
    loop, round_trip_s = ClosedLoop(model, rng), _warm_up_s(model, rng)
    records: list[RequestRecord] = []
    facts: list[StepFacts] = []
    steps: list[StepSummary] = []
    users: int | None = plan.first
    while users is not None:
        began, at = loop.now_ns, len(records)
        facts.append(StepFacts(number=len(facts), concurrency=users, began_ns=began))
        loop.set_users(users, began / SECOND, spread_s := min(round_trip_s, SPREAD * step_s))
        watch = StepWatch(began, began + round(spread_s * SECOND), step_s, PRECISION, plan.best)
        found = _watched(watch, loop, records, began / SECOND + MOST_WAIT * step_s)
        _note(facts[-1], found)
        ended, sent = records[at:], watch.belonging_to(found.window)
        steps.append(_summary(facts[-1], found, ended))
        users = plan.after(users, found.requests_per_minute if found.counts else None, broken=False)
        round_trip_s = median(_seconds(sent)) if sent else round_trip_s
    seconds = loop.now_ns / SECOND
    records += loop.drain()
    return Sweep(facts, records, seconds, throughput(steps, facts[-1].concurrency))


def _watched(watch: StepWatch, loop: ClosedLoop, records: list[RequestRecord], until_s: float) -> StepWindow:
    while loop.now_ns < until_s * SECOND:
        new = loop.run_until(loop.now_ns / SECOND + LOOK_S)
        records += new
        watch.add(new)
        if (found := watch.look(loop.now_ns, loop.settled_ns)) is not None:
            return found
    raise RuntimeError("a run would have been broken off here")


def _summary(facts: StepFacts, found: StepWindow, ended: Sequence[RequestRecord]) -> StepSummary:
    steady = None if facts.undecided else facts.unsteady is None
    return StepSummary(
        step=facts.number,
        concurrency=facts.concurrency,
        steady=steady,
        unsteady=facts.unsteady,
        undecided=facts.undecided,
        ended_by=facts.ended_by,
        verdict=Verdict.VALID,
        energy=None,
        latency={},
        goodput=None,
        **asdict(served(found.window, ended)),
    )


def _note(facts: StepFacts, found: StepWindow) -> None:
    facts.window_ns = (found.window.start, found.window.end)
    facts.unsteady = found.unsteady or found.too_short
    facts.undecided = None if facts.unsteady else found.undecided
    facts.ended_by = found.ended_by


def _warm_up_s(model: Model, rng: np.random.Generator) -> float:
    """Return the median time of an answer to eight users, of whom each asks once: what a warm-up finds."""
    loop = ClosedLoop(model, rng)
    loop.set_users(8, 0.0, 0.0)
    loop.run_until(1e-6)
    return median(_seconds(loop.drain()))


def _seconds(records: Sequence[RequestRecord]) -> list[float]:
    return [(r.end_ns - r.sent_ns) / SECOND for r in records if r.end_ns is not None and r.sent_ns is not None]


def _is_right(between: Sequence[int], at_once: int) -> bool:
    """Whether a bracket holds that of exact throughputs: they reach 95 % where all places are taken, not with half."""
    return between[0] <= at_once // 2 and between[1] >= at_once

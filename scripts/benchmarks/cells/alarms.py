"""Runs with a fault, and clean ones: which of the verdict's checks say so."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from msgspec.structs import replace

from benchmarks.cells import speeds, sweeps
from benchmarks.cells.closed import STEP_S
from benchmarks.cells.rates import capacity
from benchmarks.cells.systems import MARKOVIAN, batching
from benchmarks.simulators import runs as simulated
from benchmarks.simulators.loads import open_loop
from benchmarks.simulators.servers import Batching, Model
from benchmarks.simulators.speeds import Disturbed, Drift, Jump, Oscillation, Speed, Stall, StartUp
from loadgen.clock import SECOND
from loadgen.engines.simulated.batching import Profile
from loadgen.measure.doubling import DoublingSteps, FixedSteps
from loadgen.measure.facts import Arrivals, Instrument
from loadgen.measure.watch import MOST_STEP_TIMES
from loadgen.record import Outcome, RequestRecord
from loadgen.results.manifest import Manifest
from loadgen.results.rate import window_of
from loadgen.results.summary import summarise
from loadgen.scenario import ArrivalProcess
from loadgen.workload.arrivals import schedule

Run = tuple[Manifest, Sequence[RequestRecord]]

STEADY = "steady state"
_ANSWERS, _RATE_REQUESTS, _LOAD = 100, 1_000, 0.7
_STEP_USERS = 16
_LATE = 2 / 3
"""When in a run something happens: what happens in the first half may be cut off as the beginning."""
_ENGINE, _ONE_USER = batching(16, 1.0), speeds.MODELS["lengths of CV 1"]
_QUICK_TOKEN = Batching(Profile(a=20.0, b=0.0, prefill_ms=20.0, batch=1), 64, cv=1.0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a run."""

    alarms: Mapping[str, str]
    """The status of each check that is not content, by its name."""
    left_out: bool
    """Whether the window begins after the fault: then the figures are not of it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A kind of run, and what is to be found in it."""

    check: str | None
    """Which check is to find it; None: no check is to find anything."""
    play: Callable[[np.random.Generator], Run]
    at_s: float | None = None
    """When the fault is, where it is at one time."""
    length: int = 1
    """By so much fewer runs are enough: each is that many times as long as others."""

    def once(self, rng: np.random.Generator) -> Seen:
        """Play it once; return what the checks say."""
        manifest, records = self.play(rng)
        checks = summarise(manifest, records).verdict.checks
        raised = {c.name: c.status.value for c in checks if c.status.value in {"warn", "invalid", "inconclusive"}}
        begins = _begins_s(manifest, records)
        return Seen(raised, self.at_s is not None and begins is not None and begins >= self.at_s)


def clean() -> Mapping[str, Trial]:
    """Return runs of which nothing is wrong, at the lengths that they have by default, and longer ones."""
    quick = _ENGINE.slowed(0.5).model
    trials: dict[str, Callable[[np.random.Generator], Run]] = {
        "speed, 100 answers": partial(_speed, _ONE_USER, _ANSWERS),
        "step of 60 s, 16 users": partial(_step, quick),
        "sweep of batching 16, 0.5 s": partial(_sweep, quick),
        "sweep of M/M/16, 0.5 s": partial(_sweep, MARKOVIAN.slowed(0.5).model),
    }
    for system, name in ((_ENGINE, "batching 16"), (MARKOVIAN, "M/M/16")):
        for load in (0.5, 0.8):
            for n in (300, 1_000):
                of = partial(_rate, system.model, load * capacity(system), n)
                trials[f"rate of {name} at {load:g}, {n:,} requests"] = of
    return {name: Trial(None, play, length=5 if "sweep" in name else 1) for name, play in trials.items()}


def bursts() -> Mapping[str, Trial]:
    """Return open loops whose requests come as asked, in bursts or evenly."""
    of = partial(_rate, _ENGINE.model, _LOAD * capacity(_ENGINE), _RATE_REQUESTS)
    return {
        f"gamma schedule of CV {cv:g}, all as asked": Trial("arrivals as asked", partial(of, process="gamma", cv=cv))
        for cv in (0.5, 1.0, 2.0, 3.0, 5.0)
    }


def holes() -> Mapping[str, Trial]:
    """Return runs whose figures are of something else than was asked for."""
    return {
        "one of three workers sends 70 % of its part": Trial("arrivals as asked", _a_worker_sends_less),
        "30 % of prompt tokens from a cache": Trial("prompts not from a cache", _cached),
        "3 requests at the end that are not ours": Trial("no other load on the engine", _with_others),
        "10 % more tokens by the engine, 3 % failed": Trial("the engine's own count of tokens", _more_tokens),
        "loop 100 ms late, times of user space, TTFT 20 ms": Trial("client lag", _late),
    }


def disturbances() -> Mapping[str, Trial]:
    """Return runs in which the engine's speed changes."""
    trials: dict[str, Trial] = {}
    for kind, (seconds, model, play) in _kinds().items():
        for name, speed in _speeds(seconds).items():
            at_s = speed.at_s if isinstance(speed, Jump | Stall) else None
            trials[f"{name}, {kind}"] = Trial(STEADY, partial(play, Disturbed(model, speed)), at_s)
        trials[f"first 20 answers 5x slower, {kind}"] = Trial(STEADY, partial(play, StartUp(model, 20)))
    short = partial(_speed, StartUp(_ONE_USER, 20), 30)
    return trials | {"first 20 answers 5x slower, speed, 30 answers": Trial(STEADY, short)}


def _kinds() -> Mapping[str, tuple[float, Model, Callable[..., Run]]]:
    """Return how long each kind of run takes, on what, and how it is played."""
    per_second = _LOAD * capacity(_ENGINE)
    return {
        f"speed, {_ANSWERS} answers": (
            _ANSWERS * speeds.ANSWER_S,
            _ONE_USER,
            lambda model, rng: _speed(model, _ANSWERS, rng),
        ),
        f"step of {STEP_S:g} s, round trips of 0.5 s": (STEP_S, _ENGINE.slowed(0.5).model, _step),
        f"step of {STEP_S:g} s, round trips of 3 s": (STEP_S, _ENGINE.slowed(3.0).model, _step),
        f"rate, {_RATE_REQUESTS:,} requests at {_LOAD:g}": (
            _RATE_REQUESTS / per_second,
            _ENGINE.model,
            lambda model, rng: _rate(model, per_second, _RATE_REQUESTS, rng),
        ),
    }


def _speeds(seconds: float) -> Mapping[str, Speed]:
    """Return speeds, by what they do in so many seconds; drifts go on, as a step may last longer."""
    drifts: dict[str, Speed] = {
        f"drift by {by} %": Drift(-MOST_STEP_TIMES * by / 100, MOST_STEP_TIMES * seconds) for by in (5, 10, 20)
    }
    jumps: dict[str, Speed] = {f"jump by {by} %": Jump(-by / 100, _LATE * seconds) for by in (10, 20, 30)}
    others: dict[str, Speed] = {"oscillation by 30 %, 20 s": Oscillation(), "stall of 2 s": Stall(_LATE * seconds)}
    return drifts | jumps | others


def _begins_s(manifest: Manifest, records: Sequence[RequestRecord]) -> float | None:
    """Return when the window begins; None of one user's run, which has none."""
    if manifest.arrivals is not None:
        window, _ = window_of(manifest.arrivals, records)
        return None if window is None else window.start / SECOND
    if not manifest.steps or manifest.steps[-1].window_ns is None:
        return None
    return manifest.steps[-1].window_ns[0] / SECOND


def _speed(model: Model, n: int, rng: np.random.Generator) -> Run:
    records = speeds.answers(model, n, rng)
    return simulated.speed(records), records


def _step(model: Model, rng: np.random.Generator) -> Run:
    return _ramp(sweeps.play(model, FixedSteps([_STEP_USERS]), rng))


def _sweep(model: Model, rng: np.random.Generator) -> Run:
    return _ramp(sweeps.play(model, DoublingSteps(), rng))


def _ramp(sweep: sweeps.Sweep) -> Run:
    return simulated.sweep(sweep.records, sweep.facts), sweep.records


def _rate(
    model: Model,
    per_second: float,
    n: int,
    rng: np.random.Generator,
    process: ArrivalProcess = "poisson",
    cv: float = 1.0,
) -> Run:
    seed = int(rng.integers(2**32))
    times = np.fromiter(islice(schedule(process, per_second, cv, seed), n), dtype=np.int64)
    asked = Arrivals(process=process, rate=per_second, cv=cv, max_in_flight=1024, epoch_ns=0)
    records = open_loop(model, times, rng)
    return simulated.rate(records, asked, scenario={"max_tokens": simulated.MAX_TOKENS, "seed": seed}), records


def _a_worker_sends_less(rng: np.random.Generator) -> Run:
    manifest, whole = _rate(_ENGINE.model, _LOAD * capacity(_ENGINE), _RATE_REQUESTS, rng)
    parts = [replace(r, worker=1 + (r.prompt_row or 0) % 3) for r in whole]
    records = [r for r in parts if r.worker > 1 or rng.random() < 0.7]  # noqa: PLR2004 the fault
    started = [sum(r.worker == number for r in records) for number in range(4)]
    more: dict[str, Any] = {"workers": [simulated.worker(number, n) for number, n in enumerate(started)]}
    scenario = manifest.scenario
    assert manifest.arrivals is not None
    return simulated.rate(records, manifest.arrivals, scenario=scenario, planned_requests=len(whole), **more), records


def _usual(rng: np.random.Generator) -> list[RequestRecord]:
    return speeds.answers(_QUICK_TOKEN, _ANSWERS, rng)


def _cached(rng: np.random.Generator) -> Run:
    records = [replace(r, input_tokens=60, cached_tokens=18) for r in _usual(rng)]
    return simulated.speed(records), records


def _with_others(rng: np.random.Generator) -> Run:
    records = _usual(rng)
    return simulated.speed(records, counters=simulated.counters(records, running=3.0)), records


def _more_tokens(rng: np.random.Generator) -> Run:
    """Three answers break off half way; the engine counts a tenth more of all that it has given."""
    whole = _usual(rng)
    given = [(r.output_tokens or 0) // (2 if i < 3 else 1) for i, r in enumerate(whole)]  # noqa: PLR2004 so many failed
    gone = {"outcome": Outcome.BROKEN_STREAM, "output_tokens": None, "usage_tokens": None}
    records = [replace(r, chunks=n, **gone) for r, n in zip(whole[:3], given[:3], strict=True)] + whole[3:]
    counted = simulated.counters(records, output_tokens=1.1 * sum(given))
    return simulated.speed(records, counters=counted), records


def _late(rng: np.random.Generator) -> Run:
    records = _usual(rng)
    busy = Instrument(loop_lag_p99_ms=100.0, cpu_share=0.5, gc_longest_ms=0.2)
    return simulated.speed(records, instruments=[busy]), records

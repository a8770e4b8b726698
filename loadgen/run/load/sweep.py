"""A sweep: a closed loop with more users in each step."""

import logging
from collections.abc import Sequence
from math import ceil
from statistics import median

from loadgen.clock import SECOND
from loadgen.errors import OptionError
from loadgen.measure.causes import causes
from loadgen.measure.doubling import DoublingSteps, FixedSteps, StepPolicy
from loadgen.measure.facts import StepFacts
from loadgen.measure.goodput import meets
from loadgen.measure.limits import ATTAINMENT
from loadgen.measure.watch import MOST_STEP_TIMES, StepWatch, StepWindow, longest_step_s
from loadgen.printable import counted
from loadgen.record import Outcome, RequestRecord
from loadgen.results.manifest import Kind
from loadgen.run.load.model import LoadAborted, LoadModel, RunningLoad
from loadgen.scenario import Scenario
from loadgen.slo import Slo, parse_slo
from loadgen.steps import parse_precision, parse_steps

logger = logging.getLogger(__name__)

FIRST_SPREAD_S = 2.0
"""Starts of the first users are spread over this time if no warm-up measured a round trip."""

LONGEST_SPREAD = 1 / 6
"""Share of a step's time after which all its users are there."""

_MOST_LISTED = 6
"""Steps that an announcement lists."""

_SHOWN_IN_SECONDS = 120.0
"""Shorter durations are announced in seconds."""

MOST_WAIT = 10
"""A run is given up if a request that was sent at the start of a step has not ended after this multiple of
``--step-time``."""


class Sweep(LoadModel):
    """Steps as listed by ``--steps``, or twice as many users each time until throughput stops growing."""

    title = "sweep"
    locustfile = "locustfiles/sweep.py"
    options = {"steps": "auto"}  # noqa: RUF012 declared as a ClassVar in the base class
    uses = ("steps", "step_time", "precision")
    user_option = "--steps"

    def __init__(self, scenario: Scenario, users: int, spawn_rate: float | None) -> None:
        super().__init__(scenario, users, spawn_rate)
        self._policy = _policy(scenario)
        self._precision = parse_precision(scenario.precision)
        self._slo: Slo | None = parse_slo(scenario.slo) if scenario.slo else None

    @classmethod
    def check(cls, scenario: Scenario) -> None:
        """Raise OptionError for a number of requests."""
        if scenario.requests is not None:
            raise OptionError("--requests is not for a sweep: --step-time and --precision say how long its steps are.")

    @classmethod
    def first_users(cls, scenario: Scenario, users: int | None) -> int | None:
        """Return the users of the first step."""
        del users
        return _policy(scenario).first

    @property
    def kind(self) -> Kind:
        """It measures throughput."""
        return "throughput"

    def planned_requests(self, run_time_s: float | None) -> int | None:
        """Return None: each step takes as many requests as it needs."""
        del run_time_s
        return None

    def own_end(self, run_time_s: float | None) -> str:
        """Return that the last step ends, and how long all steps take at most."""
        del run_time_s
        steps = len(self._policy.possible)
        longest_s = steps * longest_step_s(self.scenario.step_time)
        return f"after its last step, at most {counted(steps, 'step')} and {_duration(longest_s)} after the warm-up"

    def play(self, load: RunningLoad) -> None:
        """Play one step after another."""
        step_time_s = self.scenario.step_time
        logger.info(announcement(self._policy, step_time_s))
        concurrency: int | None = self._policy.first
        e2e_ms = load.warmed_up.e2e_ms
        cycle_s = FIRST_SPREAD_S if e2e_ms is None else e2e_ms / 1000
        while concurrency is not None:
            facts = StepFacts(number=len(load.manifest.steps), concurrency=concurrency, began_ns=load.now())
            load.manifest.steps.append(facts)
            load.manifest.users = max(load.manifest.users, concurrency)
            load.live.begin_step(facts.number, self._policy.known_steps, concurrency, step_time_s)
            found, records = self._step(load, facts, cycle_s)
            note_window(facts, found)
            load.save()
            load.live.end_step(facts, found, records)
            _check_answered(facts, records)
            counted = found.requests_per_minute if found.counts else None
            concurrency = self._policy.after(concurrency, counted, broken=self._is_broken(records))
            cycle_s = median(_cycles_s(records)) if records else cycle_s

    def _step(self, load: RunningLoad, facts: StepFacts, cycle_s: float) -> tuple[StepWindow, Sequence[RequestRecord]]:
        """Bring the users up, and watch until enough is known; return the window and its requests.

        ``cycle_s``: a user's time from answer to answer, over which the starts are spread.
        """
        step_time_s = self.scenario.step_time
        spread_s = min(cycle_s, LONGEST_SPREAD * step_time_s)
        load.start_step(step=facts.number, users=facts.concurrency, spread_s=spread_s)
        facts.began_ns = load.now()
        load.set_users(facts.concurrency)
        full = load.now() + int(spread_s * SECOND)
        watch = StepWatch(facts.began_ns, full, step_time_s, self._precision, self._policy.best)
        load.follow(watch)
        while (found := watch.look(load.now(), load.settled_ns)) is None:
            load.wait()
            if load.now() > facts.began_ns + MOST_WAIT * step_time_s * SECOND:
                raise LoadAborted(
                    f"a request of the step of {counted(facts.concurrency, 'user')} was still in flight after "
                    f"{MOST_WAIT} times --step-time"
                )
        return found, watch.belonging_to(found.window)

    def _is_broken(self, records: Sequence[RequestRecord]) -> bool:
        """Whether the limits of ``--slo`` are no longer met."""
        if self._slo is None or not records:
            return False
        return sum(meets(r, self._slo) for r in records) < ATTAINMENT * len(records)


def announcement(policy: StepPolicy, step_time_s: float) -> str:
    """Describe the steps to come, how long one may take, and why."""
    users, most_s = policy.possible, MOST_STEP_TIMES * step_time_s
    until = ", until throughput stops growing" if policy.known_steps is None else ""
    return (
        f"Sweep with {_listed(users)}{until}. A step takes {step_time_s:g} s (--step-time), or less if its "
        f"requests/min are known to within --precision. It goes on to at most {most_s:g} s while it has fewer than "
        "three answers per user, is not steady, or does not show whether throughput grew."
    )


def _listed(users: Sequence[int]) -> str:
    """Return the users of all steps as text, those in the middle of a long list left out."""
    *before, last = users
    if len(users) > _MOST_LISTED:
        before = before[: _MOST_LISTED - 1]
    dots = "... " if len(before) < len(users) - 1 else ""
    return "".join(f"{n:,}, " for n in before) + dots + counted(last, "user")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _SHOWN_IN_SECONDS else f"{ceil(seconds / 60):,} min"


def _check_answered(facts: StepFacts, records: Sequence[RequestRecord]) -> None:
    """Raise LoadAborted where no request of a step had an answer: more users would have none either."""
    if not records or any(r.outcome is Outcome.OK for r in records):
        return
    most = causes(records)[0]
    raise LoadAborted(
        f"no request of the step of {counted(facts.concurrency, 'user')} had an answer: {most.count} of {len(records)} "
        f"{most.outcome}, {most.message}"
    )


def _policy(scenario: Scenario) -> StepPolicy:
    listed = parse_steps(scenario.steps)
    return DoublingSteps() if listed is None else FixedSteps(listed)


def note_window(facts: StepFacts, found: StepWindow) -> None:
    """Note in the facts of a step what its window was, and whether it was steady."""
    facts.window_ns = (found.window.start, found.window.end)
    facts.unsteady = found.unsteady or found.too_short
    facts.undecided = None if facts.unsteady else found.undecided
    facts.ended_by = found.ended_by


def _cycles_s(records: Sequence[RequestRecord]) -> list[float]:
    """Return the time from the user's answer before to the end of each request, s: its round trip and think time."""
    return [
        (r.end_ns - r.sent_ns + (r.think_ns or 0)) / SECOND
        for r in records
        if r.end_ns is not None and r.sent_ns is not None
    ]

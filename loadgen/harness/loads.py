"""How the load is applied: a plain closed loop, a sweep, an open loop."""

from collections.abc import Sequence
from statistics import median

from msgspec.structs import replace

from loadgen.clock import SECOND, Ns, now
from loadgen.harness.conductor import TICK_S, Broken, Conductor
from loadgen.measure.doubling import Doubling, Listed, Plan
from loadgen.measure.facts import StepFacts
from loadgen.measure.goodput import meets
from loadgen.measure.limits import ATTAINMENT
from loadgen.measure.watch import MOST_STEP_TIMES, Found, StepWatch
from loadgen.record import RequestRecord
from loadgen.scenario import Scenario
from loadgen.slo import Slo, parse_slo
from loadgen.steps import parse_precision, parse_steps

FIRST_SPREAD_S = 2.0
"""Starts of the first users are spread over this time where the warm-up did not tell how long an answer takes."""

LONGEST_SPREAD = 1 / 6
"""Of a step's time: its users are all there by then."""

EPOCH_AHEAD_S = 1.0
"""The schedule of an open loop begins so long after all have been told, so that the first requests can be prepared."""


class Closed:
    """Users who each wait for an answer before the next question, always as many."""

    def __init__(self, users: int, spread_s: float) -> None:
        self.warm_up_users = users
        self._spread_s = spread_s

    def play(self, conductor: Conductor) -> None:
        """Let them make all that was planned."""
        conductor.go(step=None, users=self.warm_up_users, spread_s=self._spread_s)
        while not conductor.all_done:
            conductor.wait()


class Sweep:
    """Ever more users, step by step."""

    warm_up_users = 8

    def __init__(self, scenario: Scenario) -> None:
        listed = parse_steps(scenario.steps)
        self._plan: Plan = Doubling() if listed is None else Listed(listed)
        self._precision = parse_precision(scenario.precision)
        self._step_time_s = scenario.step_time
        self._slo: Slo | None = parse_slo(scenario.slo) if scenario.slo else None

    @property
    def first(self) -> int:
        """Users of the first step."""
        return self._plan.first

    def play(self, conductor: Conductor) -> None:
        """Play one step after another."""
        concurrency: int | None = self.first
        number = 0
        round_trip_s = conductor.warm_e2e_ms / 1000 if conductor.warm_e2e_ms else FIRST_SPREAD_S
        while concurrency is not None:
            facts = StepFacts(number=number, concurrency=concurrency, began_ns=now())
            conductor.manifest.steps.append(facts)
            conductor.manifest.users = max(conductor.manifest.users, concurrency)
            conductor.live.begin_step(number, self._plan.known_steps, concurrency, self._step_time_s)
            found, records = self._step(conductor, facts, round_trip_s)
            _note(facts, found)
            conductor.save()
            conductor.live.end_step(facts, found, records)
            counted = found.requests_per_minute if found.counts else None
            concurrency = self._plan.after(concurrency, counted, broken=self._is_broken(records))
            round_trip_s = median(_seconds(records)) if records else round_trip_s
            number += 1

    def _step(
        self, conductor: Conductor, facts: StepFacts, round_trip_s: float
    ) -> tuple[Found, Sequence[RequestRecord]]:
        """Bring the users up, and watch until enough is known; return the window and the requests sent in it."""
        spread_s = min(round_trip_s, LONGEST_SPREAD * self._step_time_s)
        conductor.go(step=facts.number, users=facts.concurrency, spread_s=spread_s)
        facts.began_ns = now()
        conductor.means.set_users(facts.concurrency)
        full = now() + int(spread_s * SECOND)
        watch = StepWatch(facts.began_ns, full, self._step_time_s, self._precision, self._plan.best)
        conductor.follow = watch.add
        while (found := watch.look(now(), conductor.settled_ns)) is None:
            conductor.wait()
            if now() > facts.began_ns + 2 * MOST_STEP_TIMES * self._step_time_s * SECOND:
                raise Broken(
                    f"a request of the step of {facts.concurrency} users was still in flight after "
                    f"{2 * MOST_STEP_TIMES} times --step-time"
                )
        return found, watch.sent_in(found.window)

    def _is_broken(self, records: Sequence[RequestRecord]) -> bool:
        """Whether the limits of --slo are not kept any more."""
        if self._slo is None or not records:
            return False
        return sum(meets(r, self._slo) for r in records) < ATTAINMENT * len(records)


class Open:
    """Requests at times of an absolute schedule, whatever has become of those before."""

    warm_up_users = 8

    def play(self, conductor: Conductor) -> None:
        """Let the schedule begin, and wait for its end."""
        arrivals = conductor.manifest.arrivals
        assert arrivals is not None
        expected = arrivals.rate * (conductor.warm_e2e_ms or 1000.0) / 1000
        conductor.means.set_users(len(conductor.team.facts))  # one for each process, which sends its part
        epoch = Ns(now() + int(EPOCH_AHEAD_S * SECOND))
        conductor.manifest.arrivals = replace(arrivals, epoch_ns=epoch)
        conductor.save()
        conductor.go(step=None, users=max(2, round(expected)), spread_s=0.0, epoch=epoch)
        while not conductor.all_done:
            conductor.wait(TICK_S)


def _note(facts: StepFacts, found: Found) -> None:
    facts.window_ns = (found.window.start, found.window.end)
    facts.unsteady = found.unsteady or found.too_short
    facts.undecided = None if facts.unsteady else found.undecided
    facts.ended_by = found.ended_by


def _seconds(records: Sequence[RequestRecord]) -> list[float]:
    return [(r.end_ns - r.sent_ns) / SECOND for r in records if r.end_ns is not None and r.sent_ns is not None]

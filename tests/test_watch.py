"""When a step of the load has told enough: records as they come, on a clock of the test's own."""

import heapq
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise

import numpy as np
import pytest

from loadgen.clock import SECOND
from loadgen.measure.limits import ROUND_TRIPS
from loadgen.measure.load import Window
from loadgen.measure.statistics import Estimate
from loadgen.measure.watch import LEAST_S, MOST_STEP_TIMES, PATIENCE_S, StepWatch, StepWindow, longest_step_s
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord

LOOK_S = 0.5
BEGAN = 1_000 * SECOND
SPREAD_S = 1.0
Takes = Callable[[np.random.Generator, float], float]
"""Seconds that a request takes which is sent at this second of the step."""


def record(user: int, sent: int, end: int, outcome: Outcome = Outcome.OK) -> RequestRecord:
    return RequestRecord(
        request_id=f"{user}-{sent}",
        phase=Phase.MEASURE,
        prompt_row=0,
        sent_ns=sent,
        end_ns=end,
        output_tokens=16,
        counted_by=CountedBy.USAGE,
        outcome=outcome,
    )


@dataclass
class Step:
    """Users in a closed loop, played on a clock, and looked at twice a second."""

    users: int
    takes: Takes
    step_time_s: float = 60.0
    precision: float = 0.02
    seed: int = 1
    best: Estimate | None = None
    delay_s: float = 0.0
    """So much later the records arrive."""
    settled: list[int] = field(default_factory=list)

    def play(self) -> tuple[StepWindow, int, list[RequestRecord]]:
        """Return what was found, when, and all records that had been added by then."""
        watch = StepWatch(BEGAN, BEGAN + int(SPREAD_S * SECOND), self.step_time_s, self.precision, self.best)
        coming = heapq.merge(*map(self._of_user, range(self.users)), key=lambda r: r.end_ns or 0)
        waiting = deque([next(coming)])
        open_since = [self._first_of(user) for user in range(self.users)]
        added: list[RequestRecord] = []
        for now in self._clock():
            seen = now - int(self.delay_s * SECOND)
            arrived = []
            while waiting and (waiting[0].end_ns or 0) <= seen:
                arrived.append(waiting.popleft())
                open_since[open_since.index(arrived[-1].sent_ns or 0)] = arrived[-1].end_ns or 0
                waiting.extend(islice(coming, 1))
            watch.add(arrived)
            added += arrived
            settled = min((sent for sent in open_since if sent <= seen), default=seen)
            self.settled.append(settled)
            if (found := watch.look(now, settled)) is not None:
                return found, now, added
        raise AssertionError("it never ended")

    def _clock(self) -> Iterator[int]:
        ticks = int((MOST_STEP_TIMES * self.step_time_s + 2 * PATIENCE_S) / LOOK_S)
        return (BEGAN + int(k * LOOK_S * SECOND) for k in range(1, ticks))

    def records(self) -> Iterator[RequestRecord]:
        return chain.from_iterable(map(self._of_user, range(self.users)))

    def _first_of(self, user: int) -> int:
        return BEGAN + int(SPREAD_S * SECOND * user / self.users)

    def _of_user(self, user: int) -> Iterator[RequestRecord]:
        """Make them as they are asked for: most steps end long before their time."""
        rng = np.random.default_rng((self.seed, user))
        at = self._first_of(user)
        while at < BEGAN + (MOST_STEP_TIMES * self.step_time_s + 2 * PATIENCE_S) * SECOND:
            end = at + int(self.takes(rng, (at - BEGAN) / SECOND) * SECOND)
            yield record(user, at, end)
            at = end


def around(mean: float, cv: float = 0.1) -> Takes:
    return lambda rng, _: float(mean * max(0.05, rng.normal(1, cv)))


def seconds_of(at: int) -> float:
    return (at - BEGAN) / SECOND


@pytest.mark.parametrize("seed", range(5))
def test_a_step_ends_once_its_throughput_is_precise(seed: int) -> None:
    step = Step(16, around(0.2), seed=seed)
    found, now, _ = step.play()
    assert found.ended_by == "precision"
    assert found.unsteady is None
    assert seconds_of(now) < 40
    assert found.requests_per_minute.value == pytest.approx(60 * 16 / 0.2, rel=0.03)
    assert found.requests_per_minute.ci95 is not None


@pytest.mark.parametrize("seed", range(5))
def test_a_window_is_never_shorter_than_five_seconds_however_precise(seed: int) -> None:
    found, _, _ = Step(32, around(0.04, 0.01), seed=seed).play()
    assert found.ended_by == "precision"
    assert LEAST_S <= found.window.seconds < 2 * LEAST_S


def test_of_a_short_step_half_is_enough() -> None:
    found, _, _ = Step(64, around(0.02, 0.01), step_time_s=6).play()
    assert found.ended_by == "precision"
    assert 3 <= found.window.seconds < 6


@pytest.mark.parametrize("seed", range(5))
def test_precision_ends_no_step_before_as_many_round_trips_as_its_interval_needs(seed: int) -> None:
    found, _, _ = Step(64, around(3.0, 0.5), step_time_s=400, precision=0.5, seed=seed).play()
    assert found.ended_by == "precision"
    assert found.window.seconds >= 0.95 * ROUND_TRIPS * 3.0


def test_what_does_not_become_precise_ends_with_the_time_of_the_step() -> None:
    found, now, _ = Step(4, around(0.5, 0.5), step_time_s=20, precision=0.0001).play()
    assert found.ended_by == "step-time"
    assert 20 <= seconds_of(now) < 20 + 2
    assert seconds_of(found.window.end) <= 20
    assert found.window.end > found.window.start >= BEGAN + SPREAD_S * SECOND


@pytest.mark.parametrize(("takes", "delay_s"), [(0.2, 0.0), (0.2, 1.5), (4.0, 0.0), (4.0, 3.0)])
def test_no_window_reaches_beyond_what_has_settled(takes: float, delay_s: float) -> None:
    step = Step(16, around(takes), step_time_s=40, delay_s=delay_s)
    found, _, added = step.play()
    assert found.window.end <= step.settled[-1]
    known = {r.request_id for r in added}
    sent = [r for r in step.records() if found.window.start <= (r.sent_ns or 0) < found.window.end]
    assert sent
    assert all(r.request_id in known for r in sent)


def test_nothing_counts_before_all_users_were_told_to_start() -> None:
    found, _, _ = Step(16, around(0.2)).play()
    assert found.window.start >= BEGAN + SPREAD_S * SECOND


def test_a_beginning_that_differs_is_cut_off() -> None:
    def cold(rng: np.random.Generator, at: float) -> float:
        return around(1.0 if at < 6 else 0.2)(rng, at)

    found, _, _ = Step(16, cold).play()
    assert found.unsteady is None
    assert seconds_of(found.window.start) >= 5.5
    assert found.requests_per_minute.value == pytest.approx(60 * 16 / 0.2, rel=0.03)


def test_an_engine_that_becomes_slower_and_slower_is_said_not_to_be_steady() -> None:
    found, now, _ = Step(16, lambda rng, at: around(0.2 + 0.02 * at)(rng, at), step_time_s=30).play()
    assert found.ended_by == "step-time"
    assert seconds_of(now) >= 30
    assert found.unsteady is not None
    assert "requests/min" in found.unsteady or "output tokens/s" in found.unsteady


def test_requests_that_take_longer_than_the_step_are_waited_for_but_not_for_ever() -> None:
    slow = Step(8, around(55.0, 0.01), step_time_s=20)
    found, now, _ = slow.play()
    assert found.ended_by == "step-time"
    assert MOST_STEP_TIMES * 20 < seconds_of(now) <= MOST_STEP_TIMES * 20 + PATIENCE_S + LOOK_S
    assert found.window.end <= slow.settled[-1]
    assert found.requests_per_minute is None
    assert not found.counts
    assert (found.too_short or "").endswith("round trips, a throughput needs 3")


def test_a_step_that_is_too_short_without_its_transient_has_a_throughput_and_is_said_not_to_be_steady() -> None:
    """The first requests find an idle engine, the next ones wait: three round trips hardly fit into a minute."""
    step = Step(8, lambda rng, at: around(4.0 if at < 12 else 14.0, 0.02)(rng, at), step_time_s=20)
    found, _, _ = step.play()
    assert found.requests_per_minute is not None
    assert found.requests_per_minute.ci95 is not None
    assert found.throughput.round_trips >= 3
    assert found.window.end <= step.settled[-1]
    assert found.unsteady == "its warm-up transient reaches into its window, which would be too short without it"
    assert not found.counts


def test_no_step_lasts_longer_than_was_announced() -> None:
    steps = [Step(8, around(takes, 0.01), step_time_s=20).play() for takes in (8.0, 25.0, 55.0)]
    assert all(seconds_of(now) <= longest_step_s(20) + LOOK_S for _, now, _ in steps)


def test_a_step_gets_the_time_for_three_round_trips() -> None:
    found, now, _ = Step(8, around(9.0, 0.2), step_time_s=20).play()
    assert 20 < seconds_of(now) < MOST_STEP_TIMES * 20
    assert found.throughput.round_trips >= 3
    assert found.requests_per_minute is not None
    assert found.requests_per_minute.value == pytest.approx(60 * 8 / 9, rel=0.15)
    assert found.requests_per_minute.ci95 is not None


@pytest.mark.parametrize("takes", [2.0, 4.0])
def test_a_rough_interval_is_not_precise_however_narrow(takes: float) -> None:
    found, now, _ = Step(64, around(takes, 0.05), step_time_s=30, precision=0.5).play()
    assert found.throughput.is_rough
    assert found.ended_by == "step-time"
    assert seconds_of(now) >= 30


@pytest.mark.parametrize(("best", "longer"), [(None, False), (100.0, False), (190.0, True)])
def test_a_step_gets_the_time_for_batch_means_where_only_they_tell_whether_throughput_grew(
    best: float | None, *, longer: bool
) -> None:
    before = None if best is None else Estimate(best, (0.99 * best, 1.01 * best), 100)
    found, now, _ = Step(12, around(4.0, 0.3), step_time_s=40, precision=0.0001, best=before).play()
    assert (seconds_of(now) > 50) is longer
    assert found.requests_per_minute is not None
    assert found.requests_per_minute.ci95 is not None
    assert found.is_known is longer


def test_a_step_that_cannot_become_long_enough_for_batch_means_ends_with_its_time() -> None:
    before = Estimate(95.0, (94.0, 96.0), 100)
    found, now, _ = Step(12, around(7.5, 0.3), step_time_s=40, precision=0.0001, best=before).play()
    assert found.throughput.is_rough
    assert seconds_of(now) < 50


def test_a_server_that_refuses_is_not_asked_for_longer_than_the_step() -> None:
    watch = StepWatch(BEGAN, BEGAN, 20.0, 0.02)
    for second in range(1, 40):
        now = BEGAN + second * SECOND
        watch.add([record(user, now - SECOND, now, Outcome.REFUSED) for user in range(4)])
        if (found := watch.look(now, now)) is not None:
            break
    assert found is not None
    assert second <= 21
    assert found.too_short == "no answer was complete in its window"


def test_a_step_without_an_end_has_no_window() -> None:
    watch = StepWatch(BEGAN, BEGAN + SECOND, 10.0, 0.02)
    assert all(watch.look(BEGAN + k * SECOND, BEGAN + SECOND // 2) is None for k in range(1, 100))


def test_what_ended_before_the_load_was_there_is_forgotten() -> None:
    watch = StepWatch(BEGAN, BEGAN + SECOND, 10.0, 0.02)
    late = record(1, BEGAN, BEGAN + 3 * SECOND)
    watch.add([record(0, BEGAN - SECOND, BEGAN), late])
    assert watch.belonging_to(Window(0, BEGAN + 10 * SECOND)) == [late]


def test_a_look_costs_as_many_calls_however_many_requests_there_were() -> None:
    calls = [_calls_of_a_look(users) for users in (8, 400)]
    assert calls[0] > 100
    assert calls[1] <= 2.5 * calls[0]  # of 50 times as many: what is found decides which questions are asked


def _calls_of_a_look(users: int) -> int:
    """Count the calls of a look at a minute in which each user has made 60 requests."""
    watch = StepWatch(BEGAN, BEGAN, 300.0, 0.9)
    rng = np.random.default_rng(1)
    for user in range(users):
        ends = BEGAN + np.cumsum(rng.uniform(0.8, 1.2, 60) * SECOND).astype(int)
        watch.add([record(user, int(sent), int(end)) for sent, end in pairwise([BEGAN, *ends])])
    made = [0]
    sys.setprofile(lambda _frame, event, _arg: made.__setitem__(0, made[0] + (event in {"call", "c_call"})))
    try:
        watch.look(BEGAN + 60 * SECOND, BEGAN + 45 * SECOND)
    finally:
        sys.setprofile(None)
    return made[0]

"""Users who think: their window, their throughput with its interval, Little's law, and that a slow client is found."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as with_changes
from support.closed_network import Draw, Network, constant, exponential, repairman, uniform
from support.summaries import summary
from test_measure import record, shifted
from test_verdict import check_of, evidence

from loadgen.clock import MS, SECOND
from loadgen.measure import thinking
from loadgen.measure.check import CheckResult, Status
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import Arrivals, StepFacts
from loadgen.measure.load import Window, edges_of
from loadgen.measure.throughput import Bins
from loadgen.measure.verdict import Verdict
from loadgen.record import RequestRecord
from loadgen.results import steps
from loadgen.results.summary_schema import Figure, StepSummary
from loadgen.results.tables import answers
from loadgen.slo import parse_slo

LITTLE, CONCURRENCY = "Little's law", "concurrency as asked"


def run_of(records: list[RequestRecord], users: int, **changes: Any) -> Evidence:
    return evidence(records=records, started=len(records), planned=len(records), users=users, counters=None, **changes)


def thoughtful(users: int = 3, cycles: int = 40, **changes: Any) -> list[RequestRecord]:
    values: dict[str, Any] = {"think": uniform(1, 3), "service": constant(0.5), "places": users, "seed": 1}
    return Network(users=users, **(values | changes)).requests(users * cycles)


def figures(e: Evidence) -> StepSummary:
    """The figures of the run's only step."""
    (load,) = e.loads
    return steps.step(load, e.measured, None, Verdict.VALID, thinks=e.thinks)


def rate_of(found: StepSummary) -> Figure:
    assert found.requests_per_minute is not None
    return found.requests_per_minute


# Who thinks.


def test_users_of_a_run_without_think_times_in_its_records_do_not_think() -> None:
    records = [with_changes(r, think_ns=None) for r in thoughtful()]
    assert not run_of(records, 3).thinks


@pytest.mark.parametrize(("pause_ms", "lag_ms", "thinks"), [(0.4, 0.2, False), (4, 5, False), (100, 0.2, True)])
def test_a_pause_counts_as_thinking_only_beyond_the_lateness_of_the_event_loop(
    pause_ms: float, lag_ms: float, *, thinks: bool
) -> None:
    records = thoughtful(think=constant(pause_ms / 1000))
    assert run_of(records, 3, loop_lag_p99_ms=lag_ms).thinks is thinks


def test_one_long_pause_of_the_garbage_collector_is_no_think_time() -> None:
    records = thoughtful(think=constant(0.0002))
    records[50] = with_changes(records[50], think_ns=50 * MS)
    assert not run_of(records, 3).thinks


def test_one_thoughtful_user_among_many_is_think_time() -> None:
    busy = thoughtful(users=200, think=constant(0), cycles=40)
    one = [
        with_changes(r, user=200, think_ns=None if i == 0 else 2 * SECOND, **shifted(record(), 2150 * i))
        for i, r in enumerate(busy[:9])
    ]
    assert run_of([*busy, *one], 201).thinks


def test_an_open_loop_has_no_think_time() -> None:
    asked = Arrivals(process="poisson", rate=1.0, cv=1.0, max_in_flight=100)
    assert not run_of(thoughtful(), 3, arrivals=asked).thinks


# The window.


def cycle(user: int, *sent_ms: int) -> list[RequestRecord]:
    """A user's requests of 150 ms each, with think time between them."""
    return [
        record(
            100 * user + i,
            user=user,
            think_ns=None if i == 0 else (at - sent_ms[i - 1] - 150) * MS,
            **shifted(record(), at),
        )
        for i, at in enumerate(sent_ms)
    ]


def test_the_window_lasts_from_the_last_users_first_answer_to_the_first_users_last_one() -> None:
    records = [*cycle(0, 0, 1000, 2000, 3000), *cycle(1, 500, 1700, 2600)]
    assert thinking.whole_cycles(records, {0, 1}) == Window(650 * MS, 2750 * MS)
    assert thinking.whole_cycles(records, {0, 1, 2}) is None


def test_each_answer_counts_evenly_over_its_cycle() -> None:
    records = cycle(0, 0, 1000, 2000, 3000)
    bins = Bins.of(records, edges_of(Window(150 * MS, 3150 * MS), 100 * MS), cycles=True)
    assert bins.answers == pytest.approx([0.1] * 30)
    assert bins.mean_think_s == pytest.approx(0.85)
    assert bins.mean_round_trip_s == pytest.approx(0.15)


def test_users_who_keep_in_step_have_the_exact_throughput_wherever_the_window_ends() -> None:
    for cycles in (21, 24, 27):
        rate = rate_of(figures(run_of(thoughtful(think=constant(2.0), cycles=cycles), 3)))
        assert rate.value == pytest.approx(3 * 60 / 2.5, rel=1e-3)


# The interval.


@pytest.mark.parametrize(
    ("users", "think", "service", "places", "truth"),
    [
        (3, uniform(0.5, 1.5), constant(0.5), 3, 60 * 3 / 1.5),
        (10, uniform(1, 3), uniform(0.25, 0.75), 10, 60 * 10 / 2.5),
        (50, uniform(0, 4), exponential(0.5), 50, 60 * 50 / 2.5),
        (20, exponential(2), exponential(0.5), 4, repairman(20, 2, 0.5, 4)),
    ],
)
def test_intervals_of_throughput_hold_for_users_who_think(
    users: int, think: Draw, service: Draw, places: int, truth: float
) -> None:
    """40 runs of fixed seeds each; 200 of each were looked at when this was written: 93 to 100 of 100 hold."""
    held = shown = 0
    for seed in range(40):
        records = Network(users, think, service, places, seed).requests(users * 60)
        ci95 = rate_of(figures(run_of(records, users))).ci95
        if ci95 is not None:
            shown += 1
            held += ci95[0] <= truth <= ci95[1]
    assert shown >= 20
    assert held >= 0.9 * shown


def test_a_run_of_few_cycles_has_a_rough_interval() -> None:
    found = figures(run_of(thoughtful(users=10, cycles=8), 10))
    low, high = rate_of(found).ci95 or (0.0, 0.0)
    assert low < 60 * 10 / 2.5 < high
    assert high > 1.1 * low
    assert (found.rough, found.no_interval) == (True, None)


@pytest.mark.parametrize(("cycles", "users"), [(6, 1), (6, 4), (14, 16), (12, 4)])
def test_rough_intervals_hold_for_users_who_think(cycles: int, users: int) -> None:
    """60 runs of fixed seeds each: think time is exponential, so that cycles have a CV of 0.8."""
    found = []
    for seed in range(60):
        records = Network(users, exponential(2), constant(0.5), users, seed).requests(users * cycles)
        of = figures(run_of(records, users)) if run_of(records, users).thinks else None
        if of is not None and of.rough and (ci95 := rate_of(of).ci95):
            found.append(ci95[0] <= 60 * users / 2.5 <= ci95[1])
    assert len(found) >= 30
    assert sum(found) >= 0.9 * len(found)


def test_a_run_of_less_than_three_cycles_has_no_throughput_and_says_what_would_help() -> None:
    e = run_of(thoughtful(users=10, cycles=3), 10)
    found = figures(e)
    assert rate_of(found).value is None
    assert (found.no_interval or "").endswith(" cycles of users who think, a throughput needs 3")
    (table,) = answers(summary(kind="throughput", steps=[found], throughput=steps.throughput([found], 10)))
    assert table.note.endswith("; more --requests, or a longer --run-time.")
    assert "think time, mean, ms" in {row[0] for row in table.rows}


def test_a_run_of_many_cycles_needs_no_excuse_and_states_the_mean_think_time() -> None:
    found = figures(run_of(thoughtful(cycles=80), 3))
    assert found.no_interval is None
    assert found.think_ms == pytest.approx(2000, rel=0.1)


def test_without_think_time_a_step_has_no_figure_of_it() -> None:
    found = figures(run_of(thoughtful(think=constant(0)), 3))
    assert found.think_ms is None
    assert "think_ms" not in msgspec.to_builtins(found)


def test_what_was_served_within_the_limits_is_at_most_what_was_served() -> None:
    e = run_of(thoughtful(cycles=30), 3)
    (load,) = e.loads
    found = steps.step(load, e.measured, parse_slo("e2e_ms=900"), Verdict.VALID, thinks=True)
    assert found.goodput is not None
    assert found.goodput.requests_per_minute == pytest.approx(rate_of(found).value, rel=1e-6)


# The checks.


def test_users_who_think_are_at_work_though_few_of_them_are_in_flight() -> None:
    check = check_of(run_of(thoughtful(cycles=60), 3), CONCURRENCY)
    assert check.status is Status.OK
    assert (check.value or "").startswith("3 users asked and thought: on average 0.6")
    assert (check.value or "").endswith(" thought")


def test_users_who_sent_nothing_are_missed() -> None:
    check = check_of(run_of(thoughtful(), 4), CONCURRENCY)
    assert (check.status, check.value) == (Status.WARN, "3 users sent requests")


def test_users_who_were_never_all_in_their_cycles_have_no_throughput() -> None:
    e = run_of([*cycle(0, 0, 1000), *cycle(1, 1400, 2400)], 2)
    assert e.thinks
    assert e.loads[0].window_ns is None
    check = check_of(e, CONCURRENCY)
    assert check.status is Status.WARN
    assert "more --requests, or a longer --run-time" in (check.advice or "")


def little_of(lag_ms: float = 0.2, **changes: Any) -> CheckResult:
    return check_of(run_of(thoughtful(cycles=60, **changes), 3, loop_lag_p99_ms=lag_ms), LITTLE)


def test_littles_law_holds_for_those_who_wait_and_those_who_think() -> None:
    check = little_of()
    assert check.status is Status.OK
    assert "of 3 users waited for the engine" in (check.value or "")
    assert (check.value or "").endswith(" thought")


def test_time_that_the_client_takes_between_two_requests_is_no_thinking() -> None:
    check = little_of(own_s=0.3)
    assert check.status is Status.INVALID
    assert "were between two requests: 0.00 connecting, the rest in this client" in (check.advice or "")


def test_a_late_event_loop_does_not_pass_for_thoughtful_users() -> None:
    assert little_of(lag_ms=300.0, lag_s=0.3).status is Status.INVALID


def stepped(*numbers: int) -> Evidence:
    """A sweep of users who think: each step has new users, who start together, and those of the step before."""
    records, facts = [], []
    for index, users in enumerate(numbers):
        of_step = Network(users, uniform(1, 3), constant(0.5), users, index).requests(users * 30)
        at = index * 200_000
        moved = [
            with_changes(r, step=index, request_id=f"{index}/{r.request_id}", **shifted_all(r, at)) for r in of_step
        ]
        records += moved
        window = ((at + 5_000) * MS, (at + 60_000) * MS)
        facts.append(
            StepFacts(number=index, concurrency=users, began_ns=at * MS, window_ns=window, ended_by="step-time")
        )
    return run_of(records, max(numbers), steps=facts)


def shifted_all(r: RequestRecord, ms: int) -> dict[str, Any]:
    names = ("sent_ns", "first_token_ns", "last_token_ns", "end_ns")
    return {name: getattr(r, name) + ms * MS for name in names}


def test_users_who_think_are_not_missing_in_the_steps_of_a_sweep() -> None:
    e = stepped(2, 6)
    assert check_of(e, CONCURRENCY).value == "in every step"
    assert check_of(e, LITTLE).status is Status.OK
    for load, users in zip(e.loads, (2, 6), strict=True):
        found = steps.step(load, e.measured, None, Verdict.VALID, thinks=True)
        assert rate_of(found).value == pytest.approx(60 * users / 2.5, rel=0.1)


def test_the_last_step_ends_with_the_last_cycle_that_is_known() -> None:
    e = stepped(4)
    late = replace(e, steps=[with_changes(e.steps[0], window_ns=(5 * SECOND, 500 * SECOND))])
    window = late.loads[0].window_ns
    assert window is not None
    assert window[1] <= max(r.end_ns or 0 for r in e.measured)

"""Checks of the load: Little's law, steadiness, arrivals as asked, and nobody else's requests."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as with_changes
from test_measure import record, shifted
from test_verdict import GOOD, IDLE, WORKED, altered, check_of, evidence, status_of

from loadgen.clock import MS, SECOND
from loadgen.measure.check import Status
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import Arrivals, StepFacts, WorkerFacts
from loadgen.record import Outcome, RequestRecord
from loadgen.workload.arrivals import schedule

LITTLE = "Little's law"


def closed_loop(
    users: int, pause_ms: int = 0, rounds: int = 40, begin_ms: int = 0, **changes: Any
) -> list[RequestRecord]:
    """Users who wait 150 ms for each answer, of which 100 ms for its first token, and pause between two; in no step."""
    return [
        record(
            1000 * begin_ms + 100 * user + number,
            **shifted(record(), begin_ms + 150 * user // users + number * (150 + pause_ms), **changes),
        )
        for user in range(users)
        for number in range(rounds)
    ]


def step(number: int, concurrency: int, window_ms: tuple[int, int] | None, **changes: Any) -> StepFacts:
    window = None if window_ms is None else (window_ms[0] * MS, window_ms[1] * MS)
    values = {"ended_by": "broken off" if window is None else "step-time"} | changes
    return StepFacts(number=number, concurrency=concurrency, began_ns=0, window_ns=window, **values)


def ramp(*steps: StepFacts, records: list[RequestRecord]) -> Evidence:
    return evidence(records=records, started=len(records), steps=steps, users=8, counters=None)


@pytest.mark.parametrize(
    ("pause_ms", "status"), [(0, Status.OK), (1, Status.OK), (5, Status.WARN), (10, Status.INVALID)]
)
def test_users_who_do_not_wait_for_the_engine_are_missed_in_a_steps_window(pause_ms: int, status: Status) -> None:
    e = ramp(step(0, 4, (500, 4500)), records=closed_loop(4, pause_ms))
    assert status_of(e, LITTLE) is status


def test_users_in_flight_are_shown_by_phase_for_the_worst_step() -> None:
    second = closed_loop(8, pause_ms=10, begin_ms=10_000)
    e = ramp(step(0, 4, (500, 5000)), step(1, 8, (10_500, 15_000)), records=closed_loop(4) + second)
    check = check_of(e, LITTLE)
    assert check.status is Status.INVALID
    assert check.value == "7.50 of 8 users waited for the engine: 5.00 for a first token, 2.50 for more"


def test_little_holds_for_a_plain_closed_loop_without_its_ramp_and_drain() -> None:
    late = [with_changes(r, **shifted(r, 2000)) for r in closed_loop(1, rounds=10)]
    e = evidence(records=closed_loop(3) + late, users=4)
    assert check_of(e, LITTLE).value == "4.00 of 4 users waited for the engine: 2.67 for a first token, 1.33 for more"


def test_a_request_that_fails_occupies_its_user_all_the_same() -> None:
    records = closed_loop(4)
    failed = [
        with_changes(r, outcome=Outcome.IDLE_TIMEOUT, first_token_ns=None) if i % 2 else r
        for i, r in enumerate(records)
    ]
    check = check_of(ramp(step(0, 4, (500, 4500)), records=failed), LITTLE)
    assert (check.status, (check.value or "")[:9]) == (Status.OK, "4.00 of 4")


def test_without_a_window_little_is_not_checked() -> None:
    assert status_of(ramp(step(0, 4, None), records=closed_loop(4)), LITTLE) is Status.NOT_CHECKED
    assert status_of(evidence(records=closed_loop(2), users=3), LITTLE) is Status.NOT_CHECKED


@pytest.mark.parametrize(
    ("steps", "status", "value"),
    [
        ([step(0, 1, (0, 900)), step(1, 2, (1000, 1900))], Status.OK, "in every step"),
        (
            [step(0, 1, (0, 900)), step(1, 2, (1000, 1900), unsteady="drifts by 7 %")],
            Status.WARN,
            "2 users: drifts by 7 %",
        ),
        ([step(0, 1, (0, 900)), step(1, 2, None)], Status.WARN, "2 users: broken off"),
        ([step(0, 1, None)], Status.INCONCLUSIVE, "no step came to an end"),
    ],
)
def test_steps_that_are_not_steady_are_named(steps: list[StepFacts], status: Status, value: str) -> None:
    check = check_of(ramp(*steps, records=closed_loop(2)), "steady state")
    assert (check.status, check.value) == (status, value)


def test_each_step_has_its_own_concurrency() -> None:
    records = closed_loop(4) + closed_loop(6, begin_ms=10_000)
    fine = ramp(step(0, 4, (500, 5000)), step(1, 6, (10_500, 15_000)), records=records)
    assert status_of(fine, "concurrency as asked") is Status.OK
    check = check_of(
        ramp(step(0, 4, (500, 5000)), step(1, 8, (10_500, 15_000)), records=records), "concurrency as asked"
    )
    assert (check.status, check.value) == (Status.WARN, "6 instead of 8")


def of_users(records: list[RequestRecord]) -> list[RequestRecord]:
    """Records of :func:`closed_loop` with the numbers of their users."""
    return [with_changes(r, user=int(r.request_id[1:]) // 100) for r in records]


def test_more_requests_in_flight_than_users_asked_for_are_described_as_that() -> None:
    few = [r for r in of_users(closed_loop(5)) if (r.user or 0) < 2]
    more = [with_changes(r, **shifted(r, 3000)) for r in of_users(closed_loop(5)) if (r.user or 0) >= 2]
    e = evidence(records=[*few, *more], users=2)
    for name in (LITTLE, "concurrency as asked"):
        check = check_of(e, name)
        assert check.advice == (
            "More requests were in flight than users were asked for. "
            "5 users sent requests, more than 2 from second 3.1 on."
        ), name
    assert check_of(e, LITTLE).status is Status.INVALID
    assert "requests in flight, 2 users asked for" in (check_of(e, LITTLE).value or "")


def test_a_user_with_several_requests_at_once_is_named_as_the_reason() -> None:
    records = [with_changes(r, user=(r.user or 0) // 2) for r in of_users(closed_loop(4))]
    advice = check_of(evidence(records=records, users=2), LITTLE).advice or ""
    assert advice.endswith("Some users had several requests in flight at once.")


def test_of_older_records_nothing_is_said_about_who_sent_more() -> None:
    advice = check_of(evidence(records=closed_loop(4), users=2), LITTLE).advice
    assert advice == "More requests were in flight than users were asked for."


def test_users_between_two_requests_are_told_with_how_many_of_them_connected() -> None:
    records = [
        with_changes(r, connect_ns=(r.sent_ns or 0) - 5 * MS, connected_ns=(r.sent_ns or 0) - 1 * MS)
        for r in closed_loop(4, pause_ms=10)
    ]
    advice = check_of(evidence(records=records, users=4), LITTLE).advice or ""
    assert advice.startswith("The other 0.25 were between two requests: 0.10 connecting, the rest in this client")


def test_users_of_a_step_who_sent_nothing_are_not_said_to_be_between_two_requests() -> None:
    check = check_of(ramp(step(0, 5, (500, 4500)), records=of_users(closed_loop(4))), LITTLE)
    assert (check.status, check.advice) == (Status.INVALID, "Only 4 users sent requests.")


def test_a_run_whose_users_were_changed_is_invalid_and_has_no_figure_of_a_number_of_users() -> None:
    e = evidence(records=of_users(closed_loop(5)), users=2, users_changed=True)
    check = check_of(e, "concurrency as asked")
    assert (check.status, check.value) == (
        Status.INVALID,
        "the number of users was changed during the run; 5 users sent requests",
    )
    assert e.loads == []
    assert status_of(e, LITTLE) is Status.NOT_CHECKED


@pytest.mark.parametrize("users", [1, 8])
def test_a_closed_loop_is_labelled_as_what_it_is(users: int) -> None:
    check = check_of(evidence(users=users), "load model")
    assert check.status is Status.OK
    assert "closed loop" in (check.value or "")
    assert "locustfiles/rate.py" in (check.advice or "")


def test_an_open_loop_is_labelled_as_what_it_is() -> None:
    asked = Arrivals(process="poisson", rate=1.0, cv=1.0, max_in_flight=100)
    check = check_of(evidence(arrivals=asked), "load model")
    assert (check.status, check.advice) == (Status.OK, None)
    assert "open loop" in (check.value or "")


def answers(*milliseconds: float) -> list[RequestRecord]:
    """Answers of one user, one after another, that took so long."""
    at, found = 0.0, []
    for number, took in enumerate(milliseconds):
        found.append(
            record(number, sent_ns=int(at * MS), first_token_ns=int(at * MS) + 1, end_ns=int((at + took) * MS))
        )
        at += took
    return found


def test_a_beginning_that_is_slower_than_the_rest_is_told_with_how_many_answers_it_has() -> None:
    check = check_of(evidence(records=answers(*[500, 510] * 10, *[100, 102] * 5)), "steady state")
    assert check.status is Status.WARN
    assert (check.value or "").startswith("the first 20 answers ")
    assert "add 20 to --warmup" in (check.advice or "")


def test_one_users_answers_of_one_speed_are_steady_whatever_their_noise() -> None:
    rng = np.random.default_rng(1)
    found = [
        status_of(evidence(records=answers(*100 * rng.lognormal(0, noise, 100))), "steady state")
        for noise in (0.01, 0.1, 0.5)
        for _ in range(40)
    ]
    assert found.count(Status.WARN) <= 4  # 1 in 100
    assert status_of(evidence(records=answers(100, 200, 100)), "steady state") is Status.NOT_CHECKED


def test_steps_that_are_too_short_to_tell_make_no_verdict() -> None:
    short = step(1, 2, (1000, 1900), undecided="too short to tell: requests/min changed too slowly")
    check = check_of(ramp(step(0, 1, (0, 900)), short, records=closed_loop(2)), "steady state")
    assert (check.status, check.value) == (Status.NOT_CHECKED, "too short to tell at 2 users")
    late = open_loop(arrive(times_of("poisson", 20, 100)), undecided="too short to tell: requests in flight")
    check = check_of(late, "steady state")
    assert check.status is Status.NOT_CHECKED
    assert check.advice == "A longer --run-time."


CVS = {"constant": 0.0, "poisson": 1.0, "gamma": 2.0}


def arrive(times: Iterator[int] | list[int], late_ms: Callable[[int], float] = lambda _: 0.0) -> list[RequestRecord]:
    """Requests that are sent so late behind the times at which they are due."""
    found = []
    for number, due in enumerate(times):
        sent = SECOND + due + int(late_ms(number) * MS)
        found.append(record(number, **shifted(record(), 0)))
        found[-1] = with_changes(
            found[-1],
            scheduled_ns=SECOND + due,
            **{name: sent + (getattr(found[-1], name) or 0) for name in ("sent_ns", "first_token_ns", "end_ns")},
        )
    return found


def open_loop(
    records: list[RequestRecord],
    process: Any = "poisson",
    rate: float = 20.0,
    times_asked: list[int] | None = None,
    **changes: Any,
) -> Evidence:
    """Evidence of an open loop; ``times_asked``: its schedule, that of the records if not given."""
    times = [r.scheduled_ns or 0 for r in records]
    schedule_of = np.array(times if times_asked is None else [SECOND + at for at in times_asked])
    window = (min(times) + (max(times) - min(times)) // 10, max(times))
    asked = Arrivals(
        process=process, rate=rate, cv=CVS[process], max_in_flight=100, **({"window_ns": window} | changes)
    )
    return evidence(
        records=records,
        arrivals=asked,
        counters=None,
        started=len(records),
        planned=len(schedule_of),
        schedule=schedule_of,
    )


def times_of(process: Any, rate: float, count: int, seed: int = 7) -> list[int]:
    return list(islice(schedule(process, rate, CVS[process], seed), count))


ARRIVALS = "arrivals as asked"


@pytest.mark.parametrize("cv", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("count", [5, 100, 1000])
def test_a_schedule_that_is_kept_is_never_called_wrong_however_bursty(cv: float, count: int) -> None:
    for seed in range(30):
        times = list(islice(schedule("gamma", 20, cv, seed), count))
        e = open_loop(arrive(times), "gamma", times_asked=list(islice(schedule("gamma", 20, cv, seed), count)))
        assert status_of(e, ARRIVALS) is Status.OK


@pytest.mark.parametrize(
    ("asked", "made"),
    [("poisson", "constant"), ("constant", "poisson"), ("gamma", "poisson"), ("poisson", "gamma")],
)
def test_another_process_than_was_asked_for_is_found(asked: str, made: str) -> None:
    e = open_loop(arrive(times_of(made, 20, 100)), asked, times_asked=times_of(asked, 20, 200))
    assert status_of(e, ARRIVALS) is Status.INVALID


@pytest.mark.parametrize(("rate", "status"), [(20.0, Status.OK), (20.01, Status.INVALID), (19.0, Status.INVALID)])
def test_another_rate_than_was_asked_for_is_found(rate: float, status: Status) -> None:
    e = open_loop(
        arrive(times_of("constant", rate, 400)),
        "constant",
        times_asked=times_of("constant", 20, 400 + (rate < 20) * 21),
    )
    assert status_of(e, ARRIVALS) is status


def test_four_times_the_requests_of_a_schedule_are_invalid_and_no_chance_is_named() -> None:
    times = times_of("poisson", 2, 60)
    check = check_of(open_loop(arrive(sorted(times * 4)), rate=2.0, times_asked=times), ARRIVALS)
    assert check.status is Status.INVALID
    assert "180 not in the schedule" in (check.value or "")
    assert "chance" not in (check.advice or "")


@pytest.mark.parametrize("count", [60, 300])
def test_a_shard_of_which_a_part_is_missing_is_found_at_once(count: int) -> None:
    times = times_of("poisson", 20, count)
    third = [at for i, at in enumerate(times) if i % 3 == 0]
    kept = [at for at in times if at not in third[int(0.7 * len(third)) :]]
    check = check_of(open_loop(arrive(kept), times_asked=times), ARRIVALS)
    assert check.status is Status.INVALID
    assert f"{count - len(kept)} missing" in (check.value or "")
    assert status_of(open_loop(arrive([*times[:30], *times[31:]]), times_asked=times), ARRIVALS) is Status.WARN


def test_of_a_run_that_was_ended_from_outside_the_last_moment_is_not_looked_at() -> None:
    times = times_of("constant", 100, 400)
    kept = [at for i, at in enumerate(times) if i < 394 or i % 3]  # one process was asked to stop a little earlier
    e = open_loop(arrive(kept), "constant", 100.0, times_asked=times)
    assert status_of(with_end(e, "run-time"), ARRIVALS) is Status.OK
    assert status_of(e, ARRIVALS) is Status.WARN


def with_end(e: Evidence, ended: str) -> Evidence:
    return replace(e, ended=ended)


def test_clocks_that_were_put_together_may_be_apart_by_what_they_are_uncertain() -> None:
    times = times_of("poisson", 20, 200)
    shifted_by = [at + 400_000 * (i % 2) for i, at in enumerate(times)]
    e = open_loop(arrive(shifted_by), times_asked=times)
    assert status_of(e, ARRIVALS) is Status.INVALID
    elsewhere = WorkerFacts(number=1, name="b", host="b", pid=2, clock_offset_ns=5, clock_uncertainty_ns=250_000)
    assert status_of(replace(e, workers=[elsewhere]), ARRIVALS) is Status.OK


def test_the_time_after_the_last_request_may_be_as_near_as_it_likes() -> None:
    times = times_of("gamma", 20, 200)
    e = open_loop(arrive(times), "gamma", times_asked=[*times, times[-1]])
    assert status_of(replace(e, planned=200), ARRIVALS) is Status.OK
    assert status_of(e, ARRIVALS) is Status.WARN


def test_where_a_run_is_cut_off_a_request_and_its_time_may_lie_on_two_sides() -> None:
    elsewhere = WorkerFacts(number=1, name="b", host="b", pid=2, clock_offset_ns=5, clock_uncertainty_ns=250_000)
    times = times_of("constant", 1000, 400)
    for shift in (-400_000, 400_000):
        e = open_loop(arrive([at + shift for at in times]), "constant", 1000.0, times_asked=times)
        assert status_of(with_end(replace(e, workers=[elsewhere]), "run-time"), ARRIVALS) is Status.OK


@pytest.mark.parametrize(("dropped", "status"), [(1, Status.WARN), (20, Status.WARN), (21, Status.INVALID)])
def test_what_was_dropped_was_not_offered(dropped: int, status: Status) -> None:
    gone = {"outcome": Outcome.DROPPED, "sent_ns": None, "first_token_ns": None, "end_ns": None}
    records = [
        with_changes(r, **(gone if i < dropped else {})) for i, r in enumerate(arrive(times_of("poisson", 20, 400)))
    ]
    check = check_of(open_loop(records), "arrivals as asked")
    assert (check.status, f"{dropped} of 400 dropped" in (check.value or "")) == (status, True)


def test_a_schedule_of_which_all_was_dropped_is_invalid() -> None:
    gone = {"outcome": Outcome.DROPPED, "sent_ns": None, "first_token_ns": None, "end_ns": None}
    records = [with_changes(r, **gone) for r in arrive(times_of("poisson", 20, 50))]
    assert status_of(open_loop(records), "arrivals as asked") is Status.INVALID
    assert status_of(open_loop(records), "sent on time") is Status.NOT_CHECKED


def test_without_a_schedule_arrivals_are_not_checked() -> None:
    assert status_of(replace(open_loop(arrive(times_of("poisson", 20, 20))), schedule=None), ARRIVALS) is (
        Status.NOT_CHECKED
    )
    assert status_of(evidence(), "arrivals as asked") is Status.NOT_CHECKED


@pytest.mark.parametrize(
    ("late_ms", "status"),
    [(0.9, Status.OK), (1.1, Status.WARN), (9.0, Status.WARN), (11.0, Status.INVALID)],  # TTFT is 100 ms
)
def test_lateness_of_the_client_is_held_against_the_time_to_the_first_token(late_ms: float, status: Status) -> None:
    records = arrive(times_of("poisson", 20, 400), lambda number: late_ms if number % 50 == 0 else 0.0)
    assert status_of(open_loop(records), "sent on time") is status


def test_without_a_stream_lateness_is_held_against_the_whole_answer() -> None:
    records = [with_changes(r, first_token_ns=None) for r in arrive(times_of("poisson", 20, 400), lambda _: 1.4)]
    assert status_of(open_loop(records), "sent on time") is Status.OK


def test_in_an_open_loop_the_area_in_flight_is_rate_times_mean_time() -> None:
    check = check_of(open_loop(arrive(times_of("poisson", 20, 400))), LITTLE)
    assert check.status is Status.OK
    even = check_of(open_loop(arrive(times_of("constant", 20, 400)), "constant"), LITTLE)
    assert (even.value or "").startswith("3.00 in flight")  # 20/s * 0.15 s


def test_an_open_loop_that_outran_the_engine_is_not_steady() -> None:
    records = arrive(times_of("poisson", 20, 400))
    check = check_of(open_loop(records, unsteady="in flight grows"), "steady state")
    assert (check.status, check.value) == (Status.WARN, "in flight grows")
    assert status_of(open_loop(records), "steady state") is Status.OK
    assert status_of(open_loop(records, window_ns=None), "steady state") is Status.INCONCLUSIVE


FOREIGN = "no other load on the engine"


@pytest.mark.parametrize(
    ("busy", "status"), [({}, Status.OK), ({"running": 1.0}, Status.INVALID), ({"waiting": 2.0}, Status.INVALID)]
)
def test_an_engine_that_was_busy_before_our_first_request_is_somebody_elses(
    busy: dict[str, float], status: Status
) -> None:
    assert status_of(evidence(counters=(with_changes(IDLE, **busy), WORKED)), FOREIGN) is status


@pytest.mark.parametrize("after", [{"running": 3.0}, {"waiting": 1.0}])
def test_an_engine_that_is_busy_after_our_last_request_is_somebody_elses(after: dict[str, float]) -> None:
    check = check_of(evidence(counters=(IDLE, with_changes(WORKED, **after))), FOREIGN)
    assert check.status is Status.INVALID
    assert "after our last" in (check.value or "")
    given_up = altered(3, outcome=Outcome.TOTAL_TIMEOUT).records
    counters = (IDLE, with_changes(WORKED, **after))
    assert status_of(evidence(records=given_up, counters=counters), FOREIGN) is not Status.INVALID


@pytest.mark.parametrize(
    ("ended", "status"), [(100, Status.OK), (101, Status.INVALID), (99, Status.WARN), (-50, Status.WARN)]
)
def test_requests_that_are_not_ours_are_found_by_the_engines_count(ended: int, status: Status) -> None:
    assert status_of(evidence(counters=(IDLE, with_changes(WORKED, requests=50.0 + ended))), FOREIGN) is status


def test_a_request_that_broke_may_or_may_not_be_counted() -> None:
    records = altered(10, outcome=Outcome.BROKEN_STREAM).records
    for ended, status in ((90, Status.OK), (95, Status.OK), (100, Status.OK), (101, Status.INVALID)):
        counters = (IDLE, with_changes(WORKED, requests=50.0 + ended))
        assert status_of(evidence(records=records, counters=counters), FOREIGN) is status


def test_an_engine_that_counts_no_requests_is_looked_at_before_the_first_only() -> None:
    silent = [with_changes(c, requests=None) for c in (IDLE, WORKED)]
    assert (
        check_of(evidence(counters=tuple(silent)), FOREIGN).value == "idle before our first request and after our last"
    )
    nothing = [with_changes(c, running=None, waiting=None) for c in silent]
    assert status_of(evidence(counters=tuple(nothing)), FOREIGN) is Status.NOT_CHECKED
    assert status_of(evidence(counters=None, records=GOOD), FOREIGN) is Status.NOT_CHECKED

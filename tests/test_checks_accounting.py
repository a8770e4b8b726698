"""Checks of what is there: records, processes, samples."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as with_changes
from test_measure import record
from test_verdict import GOOD, altered, check_of, evidence, status_of

from loadgen.clock import MS
from loadgen.measure.check import Status
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import StepFacts, WorkerFacts
from loadgen.record import Outcome

CONSERVATION = "every request accounted for"


def worker(number: int, started: int | None, **changes: Any) -> WorkerFacts:
    values = {"name": f"w{number}", "host": f"host{number}", "pid": 100 + number, "started_requests": started}
    return WorkerFacts(number=number, **(values | changes))


def shared_out(*workers: WorkerFacts, missing: int = 0) -> Evidence:
    """100 requests of workers 1 and 2 in turn, of which the last ones of worker 2 have no record."""
    records = [with_changes(r, worker=1 + i % 2) for i, r in enumerate(GOOD)]
    kept = [r for i, r in enumerate(records) if r.worker == 1 or i < 100 - 2 * missing]
    started = sum(w.started_requests or 0 for w in workers)
    return evidence(records=kept, started=started, workers=[worker(0, 0), *workers])


def test_records_are_conserved_over_all_workers() -> None:
    check = check_of(shared_out(worker(1, 50), worker(2, 50)), CONSERVATION)
    assert (check.status, check.value) == (Status.OK, "100 started, 100 recorded")


def test_missing_records_are_those_of_a_worker_with_a_name() -> None:
    check = check_of(shared_out(worker(1, 50), worker(2, 50), missing=3), CONSERVATION)
    assert check.status is Status.INVALID
    assert "worker 2: 50 started, 47 recorded" in (check.value or "")
    assert "worker 1" not in (check.value or "")


def test_what_one_worker_lacks_another_cannot_have_too_many_of() -> None:
    assert status_of(shared_out(worker(1, 49), worker(2, 51)), CONSERVATION) is Status.INVALID


@pytest.mark.parametrize("lost", [worker(2, 40, lost="its connection broke"), worker(2, None, lost="never reported")])
def test_with_a_lost_worker_conservation_is_not_claimed(lost: WorkerFacts) -> None:
    check = check_of(shared_out(worker(1, 50), lost), CONSERVATION)
    assert check.status is Status.NOT_CHECKED
    assert (check.value or "").startswith("at least")


def test_a_lost_worker_excuses_neither_the_others_nor_doubled_records() -> None:
    lost = worker(2, 50, lost="killed")
    assert status_of(shared_out(worker(1, 51), lost), CONSERVATION) is Status.INVALID
    e = shared_out(worker(1, 51), lost)
    doubled = [*e.records, next(r for r in e.records if r.worker == 1)]
    assert status_of(replace(e, records=doubled), CONSERVATION) is Status.INVALID


def test_a_lost_worker_makes_a_run_invalid_and_is_named() -> None:
    check = check_of(shared_out(worker(1, 50), worker(2, 50, lost="silent for 5 s")), "workers")
    assert check.status is Status.INVALID
    assert "1 of 2 lost" in (check.value or "")
    assert "host2" in (check.value or "")
    assert "silent for 5 s" in (check.value or "")


def test_one_process_and_several_with_the_same_clock_are_told_without_clocks() -> None:
    assert check_of(evidence(), "workers").value == "1 process"
    assert check_of(shared_out(worker(1, 50), worker(2, 50)), "workers").value == "2 processes"


@pytest.mark.parametrize(("uncertainty_ms", "status"), [(0.2, Status.OK), (1.5, Status.WARN)])
def test_clocks_of_several_hosts_are_told_with_what_is_not_known_of_them(uncertainty_ms: float, status: Status) -> None:
    far = worker(2, 50, clock_offset_ns=7 * 10**12, clock_uncertainty_ns=int(uncertainty_ms * MS), wall_offset_ms=-12.5)
    check = check_of(shared_out(worker(1, 50), far), "workers")
    assert check.status is status
    assert f"{uncertainty_ms:.2f} ms" in (check.value or "")
    assert "12.5 ms" in (check.value or "")


def test_what_was_dropped_did_not_fail() -> None:
    dropped = altered(50, outcome=Outcome.DROPPED, sent_ns=None, end_ns=None)
    assert status_of(dropped, "failures") is Status.OK


def test_the_step_with_the_highest_throughput_needs_enough_answers_and_other_steps_do_not() -> None:
    def step(number: int, concurrency: int, first: int, end: int, **changes: Any) -> StepFacts:
        """A step in whose window these of the records were sent, 200 ms apart."""
        window = (200 * first * MS, 200 * end * MS)
        return StepFacts(number=number, concurrency=concurrency, began_ns=0, window_ns=window, **changes)

    few, many, half_as_fast = step(0, 7, 80, 99), step(1, 1, 0, 80), step(2, 1, 0, 80)
    half_as_fast.window_ns = (0, 2 * 200 * 80 * MS)
    check = check_of(evidence(steps=[few, half_as_fast]), "enough samples")
    assert (check.status, check.value) == (Status.WARN, "19 complete answers at 7 users, where throughput was highest")
    assert check.effect == "The interval of requests/min is rough, and p90, p95 and p99 are missing."
    assert check.advice == "A longer --step-time."
    assert status_of(evidence(steps=[many]), "enough samples") is Status.OK
    few.unsteady = "drifts"  # and so no part of the headline
    check = check_of(evidence(steps=[few, many]), "enough samples")
    assert (check.status, check.value) == (Status.OK, "80 complete answers at 1 user, where throughput was highest")


def test_a_step_that_was_broken_off_has_no_samples_to_count() -> None:
    assert status_of(evidence(steps=[StepFacts(number=0, concurrency=1, began_ns=0)]), "enough samples") is Status.OK


def test_no_record_means_no_failure_was_looked_for() -> None:
    assert status_of(evidence(records=[record(outcome=Outcome.OK)][:0]), "failures") is Status.NOT_CHECKED


@pytest.mark.parametrize(
    ("changes", "value", "advice"),
    [
        ({"ended": "interrupted", "sigint": True}, "interrupted by Ctrl-C after 100 of 200 requests", "its end"),
        ({"ended": "interrupted"}, "stopped after 100 of 200 requests", "Locust was told to stop"),
        ({"ended": "interrupted", "planned": None}, "stopped after 100 requests", "Locust was told to stop"),
        ({"ended_why": "w1: lost"}, "broken off after 100 of 200 requests: w1: lost", "Correct that"),
        ({"ended": "completed"}, "100 of 200 requests recorded", "has fewer records"),
    ],
)
def test_a_run_that_did_not_come_to_its_end_says_only_what_is_known_of_it(
    changes: dict[str, Any], value: str, advice: str
) -> None:
    check = check_of(evidence(**({"planned": 200} | changes)), "run complete")
    assert (check.status, check.value) == (Status.INCONCLUSIVE, value)
    assert advice in (check.advice or "")


def test_a_time_that_was_over_before_any_request_names_no_cause() -> None:
    check = check_of(evidence(records=[], ended="run-time"), "enough samples")
    assert check.advice == (
        "No measured request ended before --run-time was over, which includes the warm-up: make it longer."
    )

"""Exceptions in the tasks of a locustfile: counted in each process, summed, kept in run.json, and judged."""

from pathlib import Path

import msgspec
import pytest
from support.virtual_run import VirtualLocust
from test_verdict import GOOD, check_of, evidence, status_of

from loadgen.measure.check import Status
from loadgen.measure.facts import UserCode
from loadgen.measure.process_report import ProcessReport
from loadgen.results.store import read_folder
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.share import RunShare
from loadgen.run.user_code import UserCodeCounter, together

CHECK = "user code"


class UnprintableError(Exception):
    """An exception whose message raises."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


def test_nothing_counted_is_none_and_not_a_count_of_zero() -> None:
    assert UserCodeCounter().counted is None
    assert together([None, None]) is None


def test_tasks_and_the_first_exception_are_counted() -> None:
    counter = UserCodeCounter()
    for _ in range(3):
        counter.note_task()
    counter.note_error(ValueError("my own\n check failed"))
    counter.note_error(KeyError("another"))
    assert counter.counted == UserCode(tasks=3, errors=2, first_error="ValueError: my own check failed")


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError(), "ValueError"), (UnprintableError(), "UnprintableError"), (KeyError("k"), "KeyError: 'k'")],
)
def test_an_exception_without_a_message_is_named_by_its_type(error: Exception, text: str) -> None:
    counter = UserCodeCounter()
    counter.note_error(error)
    assert counter.counted is not None
    assert counter.counted.first_error == text


def test_an_endless_message_is_cut() -> None:
    counter = UserCodeCounter()
    counter.note_error(ValueError("x" * 100_000))
    assert counter.counted is not None
    assert len(counter.counted.first_error or "") == 300


def test_processes_are_summed_and_the_first_error_is_that_of_the_first_process_with_one() -> None:
    processes = [None, UserCode(tasks=5), UserCode(tasks=7, errors=1, first_error="E: a")]
    assert together([*processes, UserCode(tasks=1, errors=1, first_error="E: b")]) == UserCode(
        tasks=13, errors=2, first_error="E: a"
    )


def test_the_counts_of_all_workers_are_in_the_manifest_and_in_the_verdict(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, lambda scenario: ClosedLoop(scenario, 4, None), workers=2)

    def tasks(number: int, raising: int) -> None:
        counter = share_of(locust, number).user_code
        for _ in range(50):
            counter.note_task()
        for _ in range(raising):
            counter.note_error(ValueError("my own check failed"))

    result = locust.run((3.0, lambda: tasks(0, 0)), (4.0, lambda: tasks(1, 2)))
    counted = UserCode(tasks=100, errors=2, first_error="ValueError: my own check failed")
    assert read_folder(result.folder)[0].user_code == counted
    (check,) = [check for check in result.summary.verdict.checks if check.name == CHECK]
    assert (check.status, check.value) == (
        Status.WARN,
        "2 of 100 tasks raised an exception, the first: ValueError: my own check failed",
    )


def share_of(locust: VirtualLocust, worker: int) -> RunShare:
    share = locust.workers_there[worker].share
    assert share is not None
    return share


def test_a_report_of_a_process_that_does_not_count_is_read() -> None:
    fields = ("run_id", "worker", "sequence", "records", "histograms", "started", "in_flight", "settled_ns")
    old = dict.fromkeys(fields, 0) | {"run_id": "r", "records": [], "histograms": {}, "cpu_share": None}
    assert msgspec.convert(old | {"type": "report"}, ProcessReport).user_code is None


@pytest.mark.parametrize(
    ("counted", "status"),
    [
        (None, Status.NOT_CHECKED),
        (UserCode(tasks=100), Status.OK),
        (UserCode(tasks=100, errors=1, first_error="E"), Status.WARN),
        (UserCode(tasks=100, errors=5, first_error="E"), Status.WARN),
        (UserCode(tasks=100, errors=6, first_error="E"), Status.INVALID),
        (UserCode(tasks=0, errors=1), Status.INVALID),
    ],
)
def test_tasks_that_raise_are_a_warning_and_more_than_5_percent_make_the_run_invalid(
    counted: UserCode | None, status: Status
) -> None:
    assert status_of(evidence(records=GOOD, user_code=counted), CHECK) is status


def test_a_message_that_would_move_the_terminals_cursor_is_escaped_and_cut() -> None:
    hostile = UserCode(tasks=1, errors=1, first_error="ValueError: \x1b[2J" + "y" * 500)
    value = check_of(evidence(user_code=hostile), CHECK).value or ""
    assert "ValueError: \\x1b[2Jyyy" in value
    assert value.endswith("...")
    assert len(value) < 200

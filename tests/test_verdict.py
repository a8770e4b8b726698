"""The verdict: each check passes where it should, and trips where it must."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as with_changes
from test_measure import record, shifted

from loadgen.clock import MS
from loadgen.measure.check import OBJECTIONS, CheckResult, Status
from loadgen.measure.envelope import Cell, CellStatus, Envelope, StreamLoad
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import EngineCounters, WorkerFacts
from loadgen.measure.verdict import Verdict, judge
from loadgen.record import CountedBy, Outcome, Phase

GOOD = [record(i, **shifted(record(), 200 * i)) for i in range(100)]

CALIBRATED = Cell(streams=64, tokens_per_second=100, tokens=100, status=CellStatus.HELD, itl_share=1.0)


ALONE = WorkerFacts(number=0, name="here", host="here", pid=1, started_requests=100)

IDLE = EngineCounters(
    at_ns=0, output_tokens=1000.0, requests=50.0, running=0.0, waiting=0.0, prefix_hits=70.0, prefix_queries=700.0
)
WORKED = EngineCounters(
    at_ns=1, output_tokens=1500.0, requests=150.0, running=0.0, waiting=0.0, prefix_hits=70.0, prefix_queries=1400.0
)
"""100 answers of 5 tokens later."""


def evidence(**changes: Any) -> Evidence:
    base = Evidence(
        records=GOOD,
        started=100,
        planned=100,
        ended="completed",
        users=1,
        users_changed=False,
        shaped=False,
        max_tokens=512,
        loop_lag_p99_ms=0.5,
        cpu_share=0.1,
        gc_longest_ms=0.2,
        load=StreamLoad(streams=1, tokens_per_second=100, itl_share=1.0),
        calibration=Envelope(made_at="2026-11-25T08:00:00+00:00", held=(CALIBRATED,)),
        workers=[ALONE],
        counters=(IDLE, WORKED),
    )
    return replace(base, **changes)


def altered(count: int, **changes: Any) -> Evidence:
    """Evidence in which the first ``count`` records are different."""
    return evidence(records=[with_changes(r, **changes) if i < count else r for i, r in enumerate(GOOD)])


def check_of(e: Evidence, name: str) -> CheckResult:
    """The result of a check; every objection states its effect, whatever the test is about."""
    results = judge(e)[1]
    assert [c.name for c in results if c.status in OBJECTIONS and not (c.effect or "").endswith(".")] == []
    (check,) = [c for c in results if c.name == name]
    return check


def status_of(e: Evidence, name: str) -> Status:
    return check_of(e, name).status


ELSEWHERE = {"Little's law", "arrivals as asked", "sent on time", "user code"}
"""Checks of loads that a single user does not make."""


def test_a_good_run_is_valid_and_every_check_that_applies_has_looked() -> None:
    verdict, checks = judge(evidence())
    assert verdict is Verdict.VALID
    assert {c.status for c in checks if c.name not in ELSEWHERE} == {Status.OK}
    assert {c.name for c in checks if c.status is Status.NOT_CHECKED} == ELSEWHERE


def test_a_run_that_tells_nothing_passes_no_check_by_it() -> None:
    told = {"workers": (), "counters": None, "started": None, "cpu_share": None, "loop_lag_p99_ms": None, "load": None}
    _, checks = judge(evidence(records=[], **told))
    assert {c.name for c in checks if c.status is Status.OK} <= {"run complete", "load model"}


def test_a_check_that_trips_says_what_to_do() -> None:
    worst = evidence(records=GOOD[:20], started=21, users=2, max_tokens=4, loop_lag_p99_ms=9.0, cpu_share=1.0)
    for check in judge(worst)[1]:
        if check.status in OBJECTIONS:
            assert check.value, check.name
            assert check.limit, check.name
            assert check.effect, check.name
            assert check.advice, check.name


def trips(name: str, status: Status, make: Callable[[], Evidence]) -> Any:
    return pytest.param(name, status, make, id=f"{name}-{status.value}")


@pytest.mark.parametrize(
    ("name", "status", "make"),
    [
        trips("run complete", Status.INCONCLUSIVE, lambda: evidence(ended=None, started=None)),
        trips("run complete", Status.INCONCLUSIVE, lambda: evidence(ended="interrupted")),
        trips("run complete", Status.INCONCLUSIVE, lambda: evidence(planned=200)),
        trips("every request accounted for", Status.INVALID, lambda: evidence(started=101)),
        trips("every request accounted for", Status.INVALID, lambda: evidence(records=[*GOOD[:-1], GOOD[0]])),
        trips("every request accounted for", Status.NOT_CHECKED, lambda: evidence(started=None)),
        trips("failures", Status.WARN, lambda: altered(5, outcome=Outcome.HTTP_5XX)),
        trips("failures", Status.INVALID, lambda: altered(6, outcome=Outcome.IDLE_TIMEOUT)),
        trips("client lag", Status.WARN, lambda: evidence(loop_lag_p99_ms=6.0)),
        trips("client load", Status.WARN, lambda: evidence(cpu_share=0.9)),
        trips("client load", Status.WARN, lambda: evidence(gc_longest_ms=30.0)),
        trips("client load", Status.NOT_CHECKED, lambda: evidence(cpu_share=None)),
        trips("client lag", Status.NOT_CHECKED, lambda: evidence(loop_lag_p99_ms=None)),
        trips("inside the calibrated envelope", Status.WARN, lambda: evidence(load=StreamLoad(65, 10, 1.0))),
        trips("inside the calibrated envelope", Status.NOT_CHECKED, lambda: evidence(calibration=None)),
        trips("inside the calibrated envelope", Status.NOT_CHECKED, lambda: evidence(load=None)),
        trips("times known exactly", Status.WARN, lambda: altered(50, first_token_interval_ns=10 * MS)),
        trips("times known exactly", Status.WARN, lambda: altered(50, last_token_interval_ns=10 * MS)),
        trips("times known exactly", Status.WARN, lambda: altered(10, coalesced_chunks=4)),
        trips("token counts", Status.WARN, lambda: altered(1, end_ns=-MS)),
        trips("token counts", Status.WARN, lambda: altered(100, counted_by=CountedBy.CHUNKS)),
        trips("token counts", Status.WARN, lambda: altered(1, output_tokens=None, counted_by=None)),
        trips("token counts", Status.INVALID, lambda: altered(100, output_tokens=None, counted_by=None)),
        trips("token counts", Status.WARN, lambda: altered(1, output_tokens=4)),
        trips("token counts", Status.WARN, lambda: altered(1, output_characters=0)),
        trips("token counts", Status.WARN, lambda: altered(100, output_characters=1000)),
        trips("output lengths", Status.WARN, lambda: evidence(max_tokens=4)),
        trips("output lengths", Status.WARN, lambda: altered(1, finish_reason="length")),
        trips("concurrency as asked", Status.WARN, lambda: evidence(users=2)),
        trips("concurrency as asked", Status.INVALID, lambda: evidence(users_changed=True)),
        trips("concurrency as asked", Status.WARN, lambda: evidence(users_changed=True, shaped=True)),
        trips("enough samples", Status.WARN, lambda: evidence(records=GOOD[:29], started=29, planned=29)),
        trips("enough samples", Status.INCONCLUSIVE, lambda: altered(100, outcome=Outcome.EMPTY)),
    ],
)
def test_a_check_trips(name: str, status: Status, make: Callable[[], Evidence]) -> None:
    assert status_of(make(), name) is status


def test_lag_without_kernel_stamps_makes_a_run_invalid() -> None:
    late = altered(100, stamp="user")  # round trips of 150 ms
    assert status_of(replace(late, loop_lag_p99_ms=6.0), "client lag") is Status.WARN
    assert status_of(replace(late, loop_lag_p99_ms=16.0), "client lag") is Status.INVALID
    assert status_of(evidence(loop_lag_p99_ms=16.0), "client lag") is Status.WARN


def test_reaching_a_fixed_length_is_no_fault() -> None:
    fixed = replace(altered(100, finish_reason="length"), max_tokens=5)
    assert status_of(fixed, "output lengths") is Status.OK


def test_the_warmup_has_no_part_in_the_figures_but_its_failures_are_told() -> None:
    told = {"started": 101, "workers": [with_changes(ALONE, started_requests=101)]}
    told["counters"] = (IDLE, with_changes(WORKED, output_tokens=1505.0, requests=151.0))
    warm = record(1000, phase=Phase.WARMUP)
    assert judge(evidence(records=[warm, *GOOD], **told))[0] is Verdict.VALID
    failed = record(1000, phase=Phase.WARMUP, outcome=Outcome.HTTP_5XX)
    assert status_of(evidence(records=[failed, *GOOD], **told), "failures") is Status.WARN


@pytest.mark.parametrize(
    ("make", "verdict", "exit_status"),
    [
        (evidence, Verdict.VALID, 0),
        (lambda: altered(1, outcome=Outcome.EMPTY), Verdict.WARN, 0),
        (lambda: altered(50, outcome=Outcome.EMPTY), Verdict.INVALID, 3),
        (lambda: evidence(ended="interrupted"), Verdict.INCONCLUSIVE, 4),
        (lambda: replace(altered(50, outcome=Outcome.EMPTY), ended="interrupted"), Verdict.INVALID, 3),
    ],
)
def test_the_worst_check_is_the_verdict(make: Callable[[], Evidence], verdict: Verdict, exit_status: int) -> None:
    found, _ = judge(make())
    assert (found, found.exit_status) == (verdict, exit_status)

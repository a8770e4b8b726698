"""Checks stand in one place: each with its id, title, limit and scope, and live forms agree with the final ones."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from test_verdict import evidence

from loadgen.live.live import LiveStats
from loadgen.measure.check import Check, Status
from loadgen.measure.evidence import SoFar
from loadgen.measure.verdict import CHECKS, Verdict, judge, judge_so_far

IDS = [
    "run-complete",
    "accounting",
    "workers",
    "failures",
    "user-code",
    "loop-lag",
    "cpu",
    "calibrated",
    "timing-resolution",
    "token-counts",
    "engine-token-count",
    "streamed",
    "tokens-shown",
    "prefix-cache",
    "output-length",
    "load-model",
    "concurrency",
    "littles-law",
    "steady-state",
    "arrivals",
    "send-lag",
    "foreign-load",
    "sample-size",
]
"""Scripts rely on them."""

QUIET = SoFar(
    ended=40,
    failed=0,
    lost=(),
    loop_lag_p99_ms=0.4,
    cpu_share=0.2,
    chunks=400,
    shared_chunks=4,
    steps=2,
    unsteady=(),
)


def test_ids_are_those_that_scripts_rely_on() -> None:
    assert [check.id for check in CHECKS] == IDS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_a_check_says_what_it_holds_a_run_against_and_when(check: Check) -> None:
    assert re.fullmatch("[a-z-]+", check.id)
    assert check.title
    assert check.limit
    assert check.scope.text


def test_results_have_the_id_and_the_title_of_their_check() -> None:
    _, results = judge(evidence())
    assert [(r.id, r.name) for r in results] == [(check.id, check.title) for check in CHECKS]


def test_a_run_outside_the_scope_of_a_check_is_not_checked() -> None:
    _, results = judge(evidence())
    (arrivals,) = (r for r in results if r.id == "arrivals")
    assert arrivals.status is Status.NOT_CHECKED


def test_a_run_without_faults_is_valid_so_far() -> None:
    verdict, results = judge_so_far(QUIET)
    assert verdict is Verdict.VALID
    assert {r.status for r in results} == {Status.OK}


def test_live_results_are_named_as_final_ones() -> None:
    final = {(r.id, r.name) for r in judge(evidence())[1]}
    assert {(r.id, r.name) for r in judge_so_far(QUIET)[1]} <= final


@pytest.mark.parametrize(
    ("id_", "change", "status"),
    [
        ("failures", {"failed": 1}, Status.WARN),
        ("failures", {"failed": 3}, Status.INVALID),
        ("failures", {"ended": 0}, Status.NOT_CHECKED),
        ("workers", {"lost": ("host: it quit",)}, Status.INVALID),
        ("loop-lag", {"loop_lag_p99_ms": 5.1}, Status.WARN),
        ("loop-lag", {"loop_lag_p99_ms": None}, Status.NOT_CHECKED),
        ("cpu", {"cpu_share": 0.81}, Status.WARN),
        ("cpu", {"cpu_share": None}, Status.NOT_CHECKED),
        ("timing-resolution", {"shared_chunks": 21}, Status.WARN),
        ("timing-resolution", {"chunks": 0, "shared_chunks": 0}, Status.NOT_CHECKED),
        ("steady-state", {"unsteady": (8,)}, Status.WARN),
        ("steady-state", {"steps": 0}, Status.NOT_CHECKED),
    ],
)
def test_a_live_check_trips_where_the_final_one_would(id_: str, change: dict[str, object], status: Status) -> None:
    _, results = judge_so_far(replace(QUIET, **change))  # type: ignore[arg-type]
    (result,) = (r for r in results if r.id == id_)
    assert result.status is status


def test_before_the_first_report_nothing_is_claimed() -> None:
    live = LiveStats(planned=None, warmup=0, run_time_s=None)
    _, results = judge_so_far(live.so_far(()))
    assert {r.status for r in results if r.id != "workers"} == {Status.NOT_CHECKED}


def test_titles_stand_in_no_other_source_file() -> None:
    """Where a name of a check is written again, it goes stale; advice may quote another check's title."""
    root = Path(__file__).parent.parent / "loadgen"
    titles = [check.title for check in CHECKS if " " in check.title]
    quoted = re.compile("|".join(rf'(?:title=|^|[=(,\[ ])"{re.escape(title)}"' for title in titles))
    assert {path.parent.name for path in root.rglob("*.py") if quoted.search(path.read_text())} == {"checks"}

"""Figures over time: a run of more than an hour is cut into slices, each with its own figures."""

import pytest
from msgspec.structs import replace
from test_measure import record

from loadgen.clock import MS, SECOND
from loadgen.measure.records import Records
from loadgen.record import Outcome, RequestRecord
from loadgen.results.drift import SLICES, drift, drift_table


def run_of(hours: float, slower_at: float = 2.0) -> list[RequestRecord]:
    """One user whose answers take 10 s, and 20 s from a share of the run on; 50 tokens each."""
    records: list[RequestRecord] = []
    at, end = 0, int(hours * 3600 * SECOND)
    while at < end:
        took = (20 if at >= slower_at * end else 10) * SECOND
        times = {"first_token_ns": at + 100 * MS, "last_token_ns": at + took, "end_ns": at + took}
        records.append(record(len(records), sent_ns=at, output_tokens=50, **times))
        at += took
    return records


def test_a_run_of_less_than_an_hour_has_no_slices() -> None:
    assert drift(Records.of(run_of(0.9))) == []
    assert drift_table([]).rows == ()


def test_a_steady_run_has_the_same_figures_in_each_slice() -> None:
    slices = drift(Records.of(run_of(2)))
    assert len(slices) == SLICES
    assert [s.start_s for s in slices] == pytest.approx([600 * i for i in range(SLICES)])
    for s in slices:
        assert s.requests_per_minute == pytest.approx(6, rel=0.02)
        assert s.output_tokens_per_second == pytest.approx(5, rel=0.02)
        assert (s.failed, s.latency["e2e_ms"].p50) == (0, 10_000)


def test_an_engine_that_becomes_slower_shows_in_the_slices_after_that() -> None:
    slices = drift(Records.of(run_of(2, slower_at=0.5)))
    assert [round(s.latency["e2e_ms"].p50 or 0) for s in slices] == [10_000] * 6 + [20_000] * 6
    assert slices[-1].requests_per_minute == pytest.approx(3, rel=0.05)


def test_failures_count_in_the_slice_in_which_they_were_sent() -> None:
    records = run_of(2)
    records[-1] = replace(records[-1], outcome=Outcome.BROKEN_STREAM)
    slices = drift(Records.of(records))
    assert [s.failed for s in slices] == [0] * 11 + [1]


def test_tokens_that_were_not_counted_are_absent() -> None:
    records = run_of(2)
    records[0] = replace(records[0], output_tokens=None)
    slices = drift(Records.of(records))
    assert [s.output_tokens_per_second is None for s in slices] == [True] + [False] * 11
    assert drift_table(slices).rows[0][2] == "\N{EN DASH}"


def test_the_table_has_a_row_for_each_slice() -> None:
    table = drift_table(drift(Records.of(run_of(1))))
    assert len(table.rows) == SLICES
    assert table.rows[0][:3] == ("0 to 5", "6.00", "5.00")
    assert all(len(row) == len(table.columns) for row in table.rows)

"""Figures over time: a run of more than an hour is cut into slices, each with its own figures."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_measure import record

from loadgen.clock import MS, SECOND
from loadgen.measure.records import Records
from loadgen.record import Outcome, RequestRecord
from loadgen.results.drift import SLICES, drift, drift_table, edges_of_slices

HOUR = 3600 * SECOND


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
    assert table.rows[1][:3] == ("0:05 to 0:10", "6.00", "5.00")
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_one_request_of_two_hours_is_not_cut() -> None:
    assert drift(Records.of([record(0, end_ns=2 * HOUR), record(1, end_ns=2 * HOUR)])) == []
    assert drift(Records.of([])) == []


def test_the_drain_is_in_no_slice() -> None:
    records = run_of(2)
    slow = records[-1].sent_ns or 0
    records.append(record(-1, sent_ns=slow, first_token_ns=slow + 1, last_token_ns=slow + HOUR, end_ns=slow + HOUR))
    slices = drift(Records.of(records))
    assert (len(slices), slices[-1].end_s) == (SLICES, 7190)


def test_users_who_think_have_an_even_throughput() -> None:
    records = [replace(r, think_ns=9 * SECOND, sent_ns=(r.sent_ns or 0) + 9 * SECOND) for r in run_of(2)]
    slices = drift(Records.of(records), thinks=True)
    assert [s.requests_per_minute for s in slices] == pytest.approx([6.0] * SLICES, rel=0.02)


def test_a_request_that_was_due_and_not_sent_fails_in_its_slice() -> None:
    records = [replace(r, scheduled_ns=r.sent_ns) for r in run_of(2)]
    nothing = dict.fromkeys(("sent_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns", "output_tokens"))
    records[70] = replace(records[70], outcome=Outcome.DROPPED, **nothing)
    records[200] = replace(records[200], outcome=Outcome.REFUSED, **nothing | {"end_ns": records[200].end_ns})
    slices = drift(Records.of(records))
    assert [s.failed for s in slices] == [0, 1, 0, 1, *[0] * 8]


@given(st.integers(0, HOUR), st.integers(HOUR, 1000 * HOUR))
def test_slices_are_few_and_of_a_round_length(start: int, lasts: int) -> None:
    edges = edges_of_slices(start, start + lasts).tolist()
    assert (edges[0], edges[-1]) == (start, start + lasts)
    lengths = [later - earlier for earlier, later in pairwise(edges)]
    assert 6 <= len(lengths) <= SLICES
    assert len(set(lengths[:-1])) == 1
    assert lengths[0] % (300 * SECOND) == 0
    assert lengths[0] / 2 <= lengths[-1] < 1.5 * lengths[0]

"""Records in columns are the records that went in, and a summary made from them is the one made from the objects."""

import math
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_measure import record, shifted
from test_results import manifest

from loadgen import metrics
from loadgen.clock import MS
from loadgen.errors import DataError
from loadgen.measure.columns import ABSENT, KINDS, Integers, Reals, TimeLists, Words
from loadgen.measure.facts import WorkerFacts
from loadgen.measure.records import RecordColumns, Records
from loadgen.record import Moment, Outcome, Phase, RequestRecord, to_line
from loadgen.results.clocks import on_one_clock
from loadgen.results.manifest import to_json
from loadgen.results.store import MANIFEST, RECORDS, read_folder
from loadgen.results.summary import summarise

INTEGERS = st.integers(ABSENT + 1, -ABSENT - 1)
TIMES = st.integers(0, 1 << 62)


def any_value(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if get_args(hint) and get_origin(hint) is not list and NoneType in get_args(hint):
        return st.none() | st.one_of(*(any_value(of) for of in get_args(hint) if of is not NoneType))
    if hint is int:
        return INTEGERS
    if hint == list[int]:
        return st.lists(TIMES, max_size=5)
    if hint is float:
        return st.floats(allow_nan=False)
    return st.from_type(hint)


HINTS = {name: hint for name, hint in get_type_hints(RequestRecord).items() if name != "schema"}
ANY_RECORD = st.builds(RequestRecord, **{name: any_value(hint) for name, hint in HINTS.items()})
PARTS = st.lists(st.lists(ANY_RECORD, max_size=3), max_size=4)


def packed(parts: Sequence[Sequence[RequestRecord]]) -> Records:
    columns = RecordColumns()
    for part in parts:
        columns.add(part)
    return Records(columns)


def test_each_field_has_the_column_of_its_type() -> None:
    kinds = {int: Integers, float: Reals, list: TimeLists, bool: Words, str: Words}
    for name, kind in (("sent_ns", int), ("retry_after_s", float), ("chunk_ns", list), ("lazy", bool), ("error", str)):
        assert KINDS[name] is kinds[kind]
    assert KINDS.keys() == set(RequestRecord.__struct_fields__)


@given(PARTS)
def test_what_is_packed_comes_out_as_it_was(parts: list[list[RequestRecord]]) -> None:
    plain = [r for part in parts for r in part]
    records = packed(parts)
    assert list(records) == plain
    assert [records[i] for i in range(len(plain))] == plain
    assert list(records[1:3]) == plain[1:3]
    for name in HINTS:
        assert records.values(name) == [getattr(r, name) for r in plain]


@given(PARTS, st.data())
def test_a_selection_of_packed_records_is_that_of_the_objects(parts: list[list[RequestRecord]], data: Any) -> None:
    plain = [r for part in parts for r in part]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(plain), max_size=len(plain))), dtype=bool)
    chosen = [r for r, wanted in zip(plain, mask, strict=True) if wanted]
    for records in (packed(parts).where(mask), Records.of(plain).where(mask)):
        assert list(records) == chosen
        assert list(records.tally("outcome").items()) == list(Counter(r.outcome for r in chosen).items())
        assert list(records.tally("outcome", "error")) == list(dict.fromkeys((r.outcome, r.error) for r in chosen))
        assert records.equal("outcome", Outcome.OK).tolist() == [r.outcome is Outcome.OK for r in chosen]
        assert records.known("sent_ns").tolist() == [r.sent_ns is not None for r in chosen]
        assert records.yes("lazy").tolist() == [r.lazy for r in chosen]
        assert records.no("streamed").tolist() == [r.streamed is False for r in chosen]
        for metric in metrics.PER_REQUEST:
            assert metric.of is not None
            figures = [metric.of(r) for r in chosen]
            assert [None if math.isnan(value) else value for value in records.figure(metric)] == figures
        expected = [float(gap) / MS for r in chosen for gap in np.diff(np.array(r.chunk_ns or [], dtype=np.int64))]
        assert records.gaps_ms().tolist() == expected
        assert list(records.sorted_by("worker")) == sorted(chosen, key=lambda r: r.worker)


ENDS = st.sampled_from([Outcome.OK] * 8 + [Outcome.HTTP_5XX, Outcome.TOTAL_TIMEOUT, Outcome.REFUSED])


@st.composite
def runs(draw: st.DrawFn) -> list[RequestRecord]:
    """Records of a few users, one after another each, of which some fail, think, are drained or tell nothing."""
    users = draw(st.integers(1, 4))
    records: list[RequestRecord] = []
    for user in range(users):
        at = draw(st.integers(0, 400))
        for turn in range(draw(st.integers(5, 25))):
            outcome = draw(ENDS)
            changes: dict[str, Any] = {"user": user, "outcome": outcome, "request_id": f"{user}-{turn}"}
            if outcome is not Outcome.OK:
                unseen = dict.fromkeys(("first_token_ns", "last_token_ns", "output_tokens", "chunk_ns", "counted_by"))
                changes |= unseen | {"error": f"HTTP 500: request {turn} of {user}", "chunks": 0}
            elif draw(st.booleans()):
                changes |= {"lazy": True, "chunk_ns": None, "coalesced_chunks": 0, "last_token_interval_ns": 3 * MS}
            if draw(st.booleans()):
                changes |= {"name": draw(st.sampled_from(["a", "b", "other", ""])), "think_ns": 5 * MS}
            if turn == 0:
                changes["phase"] = Phase.WARMUP
            records.append(record(turn, **shifted(record(), at) | changes))
            at += 150 + draw(st.integers(0, 200))
    return sorted(records, key=lambda r: r.end_ns or 0)


@pytest.mark.parametrize("kind", ["speed", "throughput"])
@given(records=runs(), slo=st.sampled_from([None, "ttft_ms=100,e2e_ms=1000"]))
def test_a_summary_is_the_same_from_columns_and_from_objects(
    kind: str, records: list[RequestRecord], slo: str | None
) -> None:
    users = len({r.user for r in records})
    scenario = {"max_tokens": 512, "slo": slo}
    of = manifest(kind=kind, users=users, scenario=scenario, workers=[WorkerFacts(number=0, name="", host="", pid=1)])
    from_columns = summarise(of, packed([records[:7], records[7:]]))
    assert msgspec.json.encode(from_columns) == msgspec.json.encode(summarise(of, records))


@given(PARTS)
def test_clocks_are_put_together_in_columns_as_in_objects(parts: list[list[RequestRecord]]) -> None:
    parts = [[at_five(replace(r, worker=i % 3)) for i, r in enumerate(part)] for part in parts]
    workers = [WorkerFacts(number=n, name="", host="", pid=1, clock_offset_ns=1000 * n) for n in range(3)]
    plain = [r for part in parts for r in part]
    expected = [replace(r, **{name: 5 + 1000 * r.worker for name in TIME_FIELDS if getattr(r, name)}) for r in plain]
    assert list(on_one_clock(packed(parts), workers)) == expected
    assert list(on_one_clock(Records.of(plain), workers)) == expected


TIME_FIELDS = [
    name for name, hint in get_type_hints(RequestRecord, include_extras=True).items() if Moment in get_args(hint)
]


def at_five(r: RequestRecord) -> RequestRecord:
    """The record with all its times at 5, and no times of chunks."""
    return replace(r, chunk_ns=None, **{name: 5 for name in TIME_FIELDS if getattr(r, name) is not None})


def test_times_of_chunks_are_put_on_one_clock_too() -> None:
    workers = [WorkerFacts(number=0, name="", host="", pid=1, clock_offset_ns=7)]
    (found,) = on_one_clock(packed([[record(chunk_ns=[1, 4, 4])]]), workers)
    assert found.chunk_ns == [8, 11, 11]


def test_another_field_of_integers_changes_the_figures_made_of_it() -> None:
    plain = [record(i, **shifted(record(), i)) for i in range(5)]
    for records in (packed([plain]), Records.of(plain)):
        late = records.with_ints("sent_ns", np.full(5, 10 * MS))
        assert late.values("sent_ns") == [10 * MS] * 5
        assert late.figure(metrics.TTFT).tolist() == [90 + i for i in range(5)]
        assert records.figure(metrics.TTFT).tolist() == [100] * 5


def test_a_gap_of_more_than_two_seconds_is_kept() -> None:
    stalled = record(chunk_ns=[0, 3_000_000_000, 3_000_000_001])
    records = packed([[record()], [stalled, record()]])
    assert list(records) == [record(), stalled, record()]
    assert records.where(np.array([False, True, False])).gaps_ms().tolist() == [3_000.0, 1e-6]


def test_a_number_of_more_than_64_bits_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(to_json(manifest()))
    (tmp_path / RECORDS).write_bytes(to_line(record()) + to_line(record(1, input_tokens=1 << 70)))
    with pytest.raises(DataError, match=r"records\.jsonl, lines 1 to 2: an integer of more than 64 bits"):
        read_folder(tmp_path)


def test_a_line_that_is_no_record_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(to_json(manifest()))
    (tmp_path / RECORDS).write_bytes(to_line(record()) * 9_000 + b"{}\n" + to_line(record()))
    with pytest.raises(DataError, match=r"records\.jsonl, line 9001: "):
        read_folder(tmp_path)


BYTES_A_RECORD = 700
"""As an object a record takes more than 1,000, in columns some 350."""


def test_a_record_that_was_read_takes_a_third_of_an_object(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(to_json(manifest()))
    lines = (to_line(record(i, **shifted(record(), i), chunk_ns=None, trace_id=f"{i:032x}")) for i in range(30_000))
    (tmp_path / RECORDS).write_bytes(b"".join(lines))
    tracemalloc.start()
    try:
        _, records = read_folder(tmp_path)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records) == 30_000
    assert kept < BYTES_A_RECORD * 30_000


BYTES_A_TOKEN = 8


def test_times_of_tokens_that_were_read_take_half_of_an_integer(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(to_json(manifest()))
    times = [10_000_000_000_000 + 10_000_000 * i for i in range(500)]
    (tmp_path / RECORDS).write_bytes(b"".join(to_line(record(i, chunk_ns=times)) for i in range(1_000)))
    tracemalloc.start()
    try:
        _, records = read_folder(tmp_path)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(records.gaps_ms()) == 499_000
    assert kept < BYTES_A_TOKEN * 499_000

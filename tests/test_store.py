"""Files of processes are merged line by line, whatever was merged before."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_measure import record
from test_results import manifest

from loadgen.record import to_line
from loadgen.results.manifest import to_json
from loadgen.results.store import MANIFEST, RECORDS, RecordFile, merge, read_folder, records_path

NUMBERS = st.lists(st.integers(0, 9), unique=True)


@given(NUMBERS, NUMBERS, st.sampled_from([0, 1]))
def test_what_was_merged_before_is_not_taken_again(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], more: list[int], cut: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / MANIFEST).write_bytes(to_json(manifest()))
    (folder / RECORDS).write_bytes(b"".join(to_line(record(n)) for n in first))
    lines = b"".join(to_line(record(n)) for n in more)
    records_path(folder, 3).write_bytes(lines[: len(lines) - cut])
    whole = more[: len(more) - cut]  # the newline of the last one is missing
    expected = [f"r{n}" for n in [*first, *(n for n in whole if n not in first)]]
    assert [r.request_id for r in read_folder(folder)[1]] == expected
    merge(folder)
    assert [r.request_id for r in read_folder(folder)[1]] == expected
    assert [path.name for path in sorted(folder.iterdir())] == [RECORDS, MANIFEST]


def test_merging_takes_no_memory_for_what_is_merged(tmp_path: Path) -> None:
    tokens = list(range(10**15, 10**15 + 500))
    (tmp_path / RECORDS).write_bytes(b"".join(to_line(record(n, chunk_ns=tokens)) for n in range(3_000)))
    records_path(tmp_path, 3).write_bytes(b"".join(to_line(record(n, chunk_ns=tokens)) for n in range(2_000, 4_000)))
    tracemalloc.start()
    try:
        merge(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / RECORDS).read_bytes().count(b"\n") == 4_000
    assert peak < (tmp_path / RECORDS).stat().st_size / 20


def test_a_file_that_was_merged_in_the_meantime_is_written_again(tmp_path: Path) -> None:
    path = records_path(tmp_path, 3)
    file = RecordFile(path)
    for n in range(600):
        file.append(record(n, error="x" * 10_000))
    assert not file.put_back()
    content = path.read_bytes()
    path.unlink()
    assert file.put_back()
    assert path.read_bytes() == content
    file.close()

"""``loadgen calibrate``: the arithmetic of the envelope, the file it is kept in, and the command on a small grid."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Locust, clean_environment
from hypothesis import given
from hypothesis import strategies as st
from support.summaries import document
from test_measure import record, shifted
from test_results import manifest
from test_simulated import simulated

from loadgen.cli.calibrate import calibrate
from loadgen.clock import MS
from loadgen.errors import EngineError
from loadgen.launch.calibrate import Grid
from loadgen.measure.check import CheckResult, Status
from loadgen.measure.envelope import (
    RATE_SLACK,
    Asked,
    Cell,
    CellStatus,
    Envelope,
    StreamLoad,
    Sweep,
    allowed_ms,
    described,
    envelope,
    figure,
    is_inside,
    judged,
    stream_load,
)
from loadgen.measure.truth import Truth
from loadgen.record import Outcome, RequestRecord
from loadgen.results import calibration
from loadgen.results.calibration import Calibration, envelope_here
from loadgen.results.html import html
from loadgen.results.machine import this_machine
from loadgen.results.markdown import markdown
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Summary

LOADGEN = [sys.executable, "-m", "loadgen.cli"]
ASKED = Asked(streams=1, tokens_per_second=100, tokens=5, ttft_ms=99)
RECORDS = [record(i, **shifted(record(), 200 * i)) for i in range(40)]
"""One after another; ``at_once`` makes records of so many streams."""


def at_once(streams: int) -> list[RequestRecord]:
    return [record(i, **shifted(record(), 150 * (i // streams))) for i in range(4 * streams)]


def cell(streams: int, rate: float, status: CellStatus = CellStatus.HELD, share: float | None = 1.0) -> Cell:
    return Cell(streams=streams, tokens_per_second=rate, tokens=100, status=status, itl_share=share)


def sweep(rate: float, *cells: Cell) -> Sweep:
    return Sweep(tokens_per_second=rate, cells=cells, stopped="the top")


HELD = (cell(1024, 20, share=0.5), cell(256, 50), cell(64, 100))


def truth(r: RequestRecord, **changes: Any) -> Truth:
    """The log of a server that sent what arrived, when it arrived; the request had reached it after 1 ms."""
    sent = (r.sent_ns or 0) + 1 * MS
    first = sent + 99 * MS
    values: dict[str, Any] = {
        "request_id": r.request_id,
        "received_ns": sent,
        "sent_ns": [sent, *(first + i * 10 * MS for i in range(5)), first + 50 * MS],
        "kinds": ["h", *"ttttt", "e"],
        "output_tokens": 5,
    }
    return Truth(**(values | changes))


def truths(**changes: Any) -> dict[str, Truth]:
    # The records' chunk times are those of the first one: of the others only the ends are looked at.
    return {r.request_id: truth(r, **changes) for r in RECORDS}


def at(number: int, **changes: Any) -> RequestRecord:
    start = 200 * number
    chunks = [(start + t) * MS for t in (100, 110, 120, 130, 140)]
    return record(number, **(shifted(record(), start) | {"chunk_ns": chunks} | changes))


def judge(**changes: Any) -> Cell:
    """The cell of ten answers, the last of which is different."""
    records = [at(i) for i in range(9)] + [at(9, **changes)]
    return judged(ASKED, 1.0, records, truths())


def test_a_cell_without_errors_holds() -> None:
    found = judge()
    assert (found.status, found.why, found.answers, found.outside) == (CellStatus.HELD, None, 10, 0)
    assert found.ttft is not None
    assert (found.ttft.n, found.ttft.p99_ms, found.ttft.largest_ms) == (10, None, 0)
    assert found.itl is not None
    assert found.itl.n == 40
    assert found.lateness_p99_ms == 0
    assert found.requests_share is None  # ten answers are too few for a rate


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"first_token_ns": 1902 * MS}, "TTFT off by max 2.000 ms"),
        ({"end_ns": 1953 * MS}, "E2E off by max 3.000 ms"),
        ({"last_token_ns": 1945 * MS}, "TPOT off by max 1.250 ms"),
        ({"chunk_ns": [t * MS for t in (1900, 1912, 1920, 1930, 1940)]}, "ITL off by max 2.000 ms"),
        ({"end_ns": 1951 * MS}, "1 of 10 answers outside their intervals"),
        ({"outcome": Outcome.IDLE_TIMEOUT, "error": "silence"}, "1 of 10 requests failed (idle_timeout: silence)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cell_fails_with_the_reason(changes: dict[str, Any], word: str) -> None:
    found = judge(**changes)
    assert found.status is CellStatus.FAILED
    assert word in (found.why or "")


def test_a_cell_without_answers_fails_and_has_no_figures() -> None:
    found = judged(ASKED, None, [at(0, outcome=Outcome.EMPTY)], {})
    assert found.status is CellStatus.FAILED
    assert (found.ttft, found.itl, found.tpot, found.e2e, found.interval_p99_ms) == (None,) * 5
    assert (found.outside, found.lateness_p99_ms) == (None, None)


def test_a_server_that_falls_behind_its_script_says_nothing_of_the_client() -> None:
    late = {name: msgspec.structs.replace(t, received_ns=t.received_ns - 11 * MS) for name, t in truths().items()}
    found = judged(ASKED, 1.0, [at(i) for i in range(10)], late)
    assert found.status is CellStatus.SERVER_BOUND
    assert found.why == "the truth server was 11 ms late itself (p99)"


def test_a_client_that_pauses_between_answers_does_not_hold() -> None:
    quick, slow = (
        [record(i, **shifted(record(), (150 + pause) * i) | {"chunk_ns": None}) for i in range(60)] for pause in (2, 20)
    )
    for records, status in ((quick, CellStatus.HELD), (slow, CellStatus.FAILED)):
        found = judged(ASKED, 1.0, records, {r.request_id: truth(r) for r in records})
        assert found.status is status
    assert found.why == "88% of the requests that the server could have answered"


def test_an_error_may_be_a_millisecond_or_a_hundredth() -> None:
    assert [allowed_ms(ms) for ms in (10, 100, 500)] == [1, 1, 5]
    of_second = figure([9.9], [allowed_ms(1000)])
    assert of_second is not None
    assert of_second.of_limit == pytest.approx(0.99)


def test_a_p99_is_told_of_enough_values_only() -> None:
    errors = [0.1] * 367
    few, enough = figure([*errors[1:], -5.0], [1.0] * 367), figure([*errors, -5.0], [1.0] * 368)
    assert few is not None
    assert enough is not None
    assert (few.p99_ms, few.largest_ms, few.of_limit) == (None, 5.0, 5.0)
    assert (enough.p99_ms, enough.largest_ms, enough.of_limit) == (0.1, 5.0, 0.1)
    assert figure([], []) is None


def test_the_envelope_is_per_rate_the_most_streams_that_held() -> None:
    sweeps = [
        sweep(20, cell(1, 20), cell(64, 20), cell(256, 20, CellStatus.FAILED)),
        sweep(50, cell(1, 50, CellStatus.SERVER_BOUND)),
        sweep(100, cell(1, 100)),
    ]
    assert [(c.tokens_per_second, c.streams) for c in envelope(sweeps)] == [(20, 64), (100, 1)]


@pytest.mark.parametrize(
    ("streams", "rate", "share", "inside"),
    [
        (64, 98, 1.0, True),
        (64, 104, 1.0, True),  # the slack of a rate
        (64, 106, 1.0, True),  # 256 at 50 are more in all
        (256, 53, 1.0, False),
        (65, 20, 1.0, True),  # between two of the grid
        (8, 800, 1.0, True),  # beyond the fastest rate, by the total
        (8, 3000, 1.0, False),
        (1024, 20, 0.5, True),
        (1024, 20, 1.0, False),  # so many were not read one by one
        (1025, 1, 0.0, False),
    ],
)
def test_a_load_is_inside_by_streams_total_rate_and_what_is_read_one_by_one(
    streams: int, rate: float, share: float, *, inside: bool
) -> None:
    assert is_inside(StreamLoad(streams, rate, share), HELD) is inside


loads = st.builds(StreamLoad, st.integers(1, 5000), st.floats(1, 1000), st.floats(0, 1))
cells = st.builds(cell, st.integers(1, 5000), st.floats(1, 1000), st.just(CellStatus.HELD), st.floats(0, 1))


@given(loads, st.lists(cells), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_less_of_a_load_that_is_inside_is_inside(
    run: StreamLoad, held: list[Cell], a: float, b: float, c: float
) -> None:
    less = StreamLoad(max(1, int(run.streams * a)), run.tokens_per_second * b, run.itl_share * c)
    assert is_inside(less, held) or not is_inside(run, held)


@given(loads, st.lists(cells), cells)
def test_another_cell_that_held_takes_nothing_away(run: StreamLoad, held: list[Cell], more: Cell) -> None:
    assert is_inside(run, [*held, more]) or not is_inside(run, held)


@given(st.lists(cells, min_size=1))
def test_what_was_measured_is_inside_and_what_is_larger_than_all_is_not(held: list[Cell]) -> None:
    first = held[0]
    assert is_inside(StreamLoad(first.streams, first.tokens_per_second, first.itl_share or 0.0), held)
    most = max(c.streams * c.tokens_per_second for c in held)
    assert not is_inside(StreamLoad(1, most * RATE_SLACK * 1.01, 0.0), held)
    assert not is_inside(StreamLoad(max(c.streams for c in held) + 1, 1e-9, 0.0), held)


def test_the_load_of_a_run_has_the_median_rate_of_its_streams() -> None:
    rates = [record(output_tokens=5), record(output_tokens=5), record(output_tokens=41)]
    assert stream_load(rates, 8, 0.5) == StreamLoad(8, 100, 0.5)
    assert stream_load([record(first_token_ns=None, last_token_ns=None)], 1, 1.0) is None
    assert stream_load([record(client="openai")], 1, 1.0) is None


def made(**changes: Any) -> Calibration:
    values: dict[str, Any] = {
        "made_at": "2026-11-25T08:00:00+00:00",
        "machine": this_machine(),
        "sweeps": tuple(sweep(c.tokens_per_second, c) for c in HELD),
        "envelope": HELD,
    }
    return Calibration(**(values | changes))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "state" / "calibration.json"
    monkeypatch.setenv("LOADGEN_CALIBRATION", str(file))
    return file


def test_a_run_reads_back_what_was_kept(kept: Path) -> None:
    calibration.save(made(), calibration.writable_path())
    assert envelope_here() == (Envelope(made_at="2026-11-25T08:00:00+00:00", held=HELD), None)
    stored = json.loads(kept.read_bytes())
    assert stored["schema"] == 1
    assert stored["machine"]["python"] == this_machine().python
    assert list(kept.parent.iterdir()) == [kept]


def test_it_is_kept_in_the_state_folder_unless_a_variable_names_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOADGEN_CALIBRATION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert calibration.path() == Path("/state/loadgen/calibration.json")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert calibration.path() == Path("/home/someone/.local/state/loadgen/calibration.json")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cpu": "Another"}, "another machine: its processor was Another"),
        ({"cpus": 4096}, "another machine: its number of cores was 4096"),
        ({"platform": "Linux-1.0"}, "another machine: its system was Linux-1.0"),
        ({"python": "3.99"}, "another machine: its Python was 3.99"),
        ({"loadgen": "0.0.1"}, "another loadgen version: 0.0.1"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("kept")
def test_a_calibration_of_another_machine_or_version_does_not_count(changes: dict[str, Any], word: str) -> None:
    other = msgspec.structs.replace(this_machine(), **changes)
    calibration.save(made(machine=other), calibration.writable_path())
    found, why = envelope_here()
    assert found is None
    assert word in (why or "")


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"schema": 2}'], ids=lambda d: d[:8]
)
def test_a_damaged_calibration_is_as_none(kept: Path, data: bytes) -> None:
    kept.parent.mkdir()
    kept.write_bytes(data)
    assert envelope_here() == (None, "the calibration is damaged")


def test_half_a_calibration_is_damaged_wherever_it_ends(kept: Path) -> None:
    calibration.save(made(), calibration.writable_path())
    whole = kept.read_bytes().rstrip()
    for end in range(0, len(whole), 97):
        kept.write_bytes(whole[:end])
        assert envelope_here() == (None, "the calibration is damaged")


def test_a_calibration_that_cannot_be_read_is_as_none(kept: Path) -> None:
    assert envelope_here() == (None, "this machine is not calibrated")
    kept.mkdir(parents=True)
    assert envelope_here() == (None, "the calibration cannot be read (Is a directory)")


def check_of(summary: Summary) -> CheckResult:
    (found,) = [c for c in summary.verdict.checks if c.name == "inside the calibrated envelope"]
    return found


MADE = Envelope(made_at="2026-11-25T08:00:00+00:00", held=(cell(64, 100),))


def test_a_run_outside_the_envelope_is_a_warn_with_advice() -> None:
    inside = summarise(manifest(calibration=MADE), RECORDS)
    assert msgspec.to_builtins(check_of(inside)) | {"advice": None} == {
        "id": "calibrated",
        "name": "inside the calibrated envelope",
        "status": "ok",
        "value": "1 stream at 100 tokens/s each",
        "limit": "64 streams at up to 100 tokens/s each",
        "effect": None,
        "advice": None,
    }
    outside = check_of(summarise(manifest(calibration=MADE, users=65), at_once(65)))
    assert (outside.status, outside.value) == (Status.WARN, "65 streams at 100 tokens/s each")
    assert "--users" in (outside.advice or "")


def test_reading_more_streams_token_by_token_than_was_calibrated_is_a_warn() -> None:
    lazily = Envelope(made_at="", held=(cell(64, 100, share=0.25),))
    found = check_of(summarise(manifest(calibration=lazily, users=64, itl_share=1.0), at_once(64)))
    assert found.status is Status.WARN
    assert "100 % of them read token by token" in (found.value or "")
    assert "--itl-sample" in (found.advice or "")


def test_what_is_not_calibrated_is_not_checked_and_says_why() -> None:
    none = check_of(summarise(manifest(no_calibration="the calibration is damaged"), RECORDS))
    assert (none.status, none.limit) == (Status.NOT_CHECKED, "unknown: the calibration is damaged")
    assert none.advice == "Run `loadgen calibrate` once on this machine."
    for other in (
        summarise(manifest(calibration=MADE, host="https://h"), RECORDS),
        summarise(manifest(calibration=MADE), [record(client="openai")]),
    ):
        assert check_of(other).status is Status.NOT_CHECKED
        assert "own client on this machine, without TLS" in (check_of(other).advice or "")


def test_reports_quote_the_envelope() -> None:
    s = summarise(manifest(calibration=Envelope(made_at="2026-11-25T08:00:00+00:00", held=HELD)), RECORDS)
    quoted = "1,024 streams at up to 20 tokens/s each, 256 at 50, 64 at 100"
    assert s.instrument.calibration is not None
    assert s.instrument.calibration.text == quoted == described(HELD)
    assert [c.streams for c in s.instrument.calibration.held] == [1024, 256, 64]
    for page in (markdown(document(s)), html(document(s))):
        assert f"{quoted} (2026-11-25)" in page
    assert summarise(manifest(), RECORDS).instrument.calibration is None
    assert "not calibrated" in markdown(document(summarise(manifest(), RECORDS)))


def test_a_small_grid_is_measured_kept_and_quoted_by_a_run(kept: Path, tmp_path: Path, locust: Locust) -> None:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = calibrate(Grid(rates=(100,), streams=(1, 8), answer_s=0.5))
    assert status == 0
    assert err.getvalue().count("tokens/s each: ") == err.getvalue().count("\n")  # a line per cell
    assert "Calibrated envelope" in out.getvalue()
    found = msgspec.json.decode(kept.read_bytes(), type=Calibration)
    (only,) = found.sweeps
    held = [c.streams for c in only.cells if c.status is CellStatus.HELD]
    assert held == [1, 8][: len(held)]  # what did not hold is looked at twice
    first = only.cells[0]
    assert first.answers == 6
    assert first.itl is not None
    assert first.itl.n == 6 * (first.tokens - 1)
    assert first.lateness_p99_ms is not None

    with simulated(tmp_path, ttft_ms=5, itl_ms=1) as server:
        arguments = ("--host", server.host, "--requests", "60", "--max-tokens", "16")
        # What held depends on this machine, so the envelope of the run is one that surely does not hold it.
        calibration.save(made(envelope=(cell(2, 10),)), kept)
        done = locust(*arguments, users=3, environment={"LOADGEN_CALIBRATION": str(kept)})
    done.assert_ended_well()
    assert done.manifest["calibration"]["held"][0]["streams"] == 2
    assert done.checks["inside the calibrated envelope"]["status"] == "warn"
    assert "inside the calibrated envelope: " in done.out


def processes_with(mark: str) -> list[int]:
    """The processes that have this in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_an_interruption_leaves_nothing_running_and_the_old_calibration_in_place(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text("old")
    environment = clean_environment(LOADGEN_CALIBRATION=str(file), TMPDIR=str(tmp_path), A_MARK=str(tmp_path))
    process = subprocess.Popen([*LOADGEN, "calibrate"], env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while len(processes_with(f"A_MARK={tmp_path}")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # itself, the server and Locust
    assert len(processes_with(f"A_MARK={tmp_path}")) >= 3
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 4, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert processes_with(f"A_MARK={tmp_path}") == []
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]
    assert file.read_text() == "old"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (
            [],
            {"LOADGEN_CALIBRATION": "/proc/nothing/c.json"},
            ["LOADGEN_CALIBRATION=/proc/nothing/c.json", "another file"],
        ),
        ([], {"LOADGEN_CALIBRATION": "/tmp"}, ["LOADGEN_CALIBRATION=/tmp", "it is a folder", "another file"]),
        ([], {"XDG_STATE_HOME": "/proc/nothing"}, ["/proc/nothing/loadgen/calibration.json", "LOADGEN_CALIBRATION"]),
        (["--nope"], {}, ["--nope"]),
    ],
)
def test_a_mistake_is_named_before_anything_is_measured(
    arguments: list[str], environment: dict[str, str], words: list[str]
) -> None:
    kept_out = {"LOADGEN_CALIBRATION": ""} | environment
    done = subprocess.run(
        [*LOADGEN, "calibrate", *arguments],
        env=clean_environment(**kept_out),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_a_truth_server_that_does_not_start_is_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="the truth server"):
        calibrate(Grid(rates=(100,), streams=(1,)))
    assert not kept.exists()

"""Results folders and reports: what is written, what is read back, and that nothing in them can do harm."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.summaries import document
from test_measure import record, shifted

from loadgen.errors import DataError
from loadgen.measure.facts import Instrument
from loadgen.measure.verdict import Verdict
from loadgen.record import Outcome, RequestRecord
from loadgen.results import store
from loadgen.results.compare import compare
from loadgen.results.html import html
from loadgen.results.manifest import Ended, Manifest
from loadgen.results.markdown import markdown
from loadgen.results.report import report
from loadgen.results.store import RecordFile, RunFolder, merge, records_path
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Speed, as_json


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "run_id": "20260101-000000-speed-m-0000",
        "kind": "speed",
        "engine": "vllm",
        "model": "m",
        "host": "http://h:8000",
        "simulated": False,
        "scenario": {"max_tokens": 512, "client": "own", "no_stream": False},
        "users": 1,
        "planned_requests": 40,
        "dataset": {"name": "LIMA (GAIR/lima, train)", "sample_rows": list(range(40))},
        "server": {},
        "versions": {},
        "environment": {},
        "started_at": "2026-01-01T00:00:00+00:00",
        "anchor": {"realtime_ns": 1, "monotonic_ns": 1},
        "ended": Ended(reason="completed", at="2026-01-01T00:01:00+00:00", started_requests=40),
        "instruments": [Instrument(loop_lag_p50_ms=0.1, loop_lag_p99_ms=0.4, loop_lag_max_ms=1.0, cpu_seconds=0.5)],
    }
    return Manifest(**(values | changes))


RECORDS = [record(i, **shifted(record(), 200 * i)) for i in range(40)]


def test_the_summary_has_the_names_and_figures_of_the_contract() -> None:
    s = as_json(summarise(manifest(), RECORDS))
    assert (s["schema"], s["kind"], s["engine"], s["model"], s["simulated"]) == (1, "speed", "vllm", "m", False)
    assert s["verdict"]["status"] == "VALID"
    assert {"id", "name", "status", "value", "limit", "effect", "advice"} == set(s["verdict"]["checks"][0])
    assert s["speed"]["tokens_per_second_mean"]["value"] == pytest.approx(5 / 0.15)
    assert s["speed"]["tokens_per_second_total"]["ci95"] == pytest.approx([5 / 0.15] * 2)
    assert s["latency"]["ttft_ms"] == {
        "n": 40,
        "mean": 100.0,
        "p50": 100.0,
        "p90": 100.0,
        "not_resolvable": ["p95", "p99"],
        "needs": {"p95": 72, "p99": 368},
    }
    assert s["latency"]["tpot_ms"]["p50"] == 10
    assert s["latency"]["itl_ms"]["n"] == 160
    assert s["tokens"] | {"output_per_request": {}} == {
        "output": 200,
        "input": None,
        "cached_input": None,
        "output_per_request": {},
        "counted_by": {"usage": 40},
        "counts": {"usage": None, "tokenizer": None, "chunks": 200, "put_right": None},
        "finish_reasons": {"stop": 40},
    }
    assert s["instrument"]["loop_lag_ms"] == {"p50": 0.1, "p99": 0.4, "max": 1.0}
    assert s["instrument"]["timestamp_source"] == "kernel"


def test_no_figure_is_labelled_with_the_users_at_first_where_they_were_changed() -> None:
    records = [record(i, user=i % 5, **shifted(record(), 30 * i)) for i in range(200)]
    changed = manifest(kind="throughput", users=2, users_changed=True)
    s = summarise(changed, records)
    assert s.verdict.status is Verdict.INVALID
    assert s.throughput is not None
    assert (s.users_changed, s.steps, s.throughput.at_concurrency) == (True, [], None)
    for page in (markdown(document(s)), html(document(s))):
        assert "at 2 users" not in page
        assert "the number of users was changed during the run" in page
    assert "users changed during the run" in markdown(document(summarise(manifest(users_changed=True), RECORDS)))


def test_gaps_between_chunks_of_several_tokens_are_not_called_inter_token() -> None:
    several = [record(i, **shifted(record(), 200 * i, output_tokens=10)) for i in range(40)]
    latency = summarise(manifest(), several).latency
    assert "itl_ms" not in latency
    assert latency["icl_ms"].n == 160


def test_what_was_not_measured_is_absent_and_never_zero() -> None:
    nothing = [record(i, **shifted(record(), 200 * i), outcome=Outcome.HTTP_5XX, output_tokens=None) for i in range(40)]
    s = summarise(manifest(instruments=[]), nothing)
    assert s.speed == Speed(tokens_per_second_mean=None, tokens_per_second_total=None)
    assert as_json(s)["speed"] == {"tokens_per_second_mean": None, "tokens_per_second_total": None}
    assert as_json(s)["latency"]["ttft_ms"] == {"n": 0}
    assert (s.tokens.output, s.tokens.input) == (None, None)
    assert s.instrument.loop_lag_ms is None
    assert summarise(manifest(ended=None), RECORDS).requests.started is None


def kept(parent: Path, of: Manifest, records: Sequence[RequestRecord]) -> Path:
    """A folder as a run of one process leaves it."""
    folder = RunFolder(parent / of.run_id, of)
    file = RecordFile(records_path(folder.path, 0))
    for r in records:
        file.append(r)
    file.close()
    merge(folder.path)
    return folder.path


def test_a_folder_reads_back_what_was_written(tmp_path: Path) -> None:
    folder = kept(tmp_path, manifest(), RECORDS)
    found, records = store.read_folder(folder)
    assert (found, list(records)) == (manifest(), RECORDS)


def test_a_line_that_a_kill_cut_in_two_is_left_out(tmp_path: Path) -> None:
    folder = kept(tmp_path, manifest(ended=None), RECORDS[:3])
    path = folder / store.RECORDS
    path.write_bytes(path.read_bytes()[:-20])
    assert list(store.read_folder(folder)[1]) == RECORDS[:2]
    s = report(folder)
    assert s.verdict.status is Verdict.INCONCLUSIVE
    assert s.requests.completed == 2


def test_reports_show_the_same_figures() -> None:
    s = summarise(manifest(), RECORDS)
    for page in (markdown(document(s)), html(document(s))):
        assert "m on vllm, prompts: LIMA (GAIR/lima, train)" in page.replace("\\", "")
        assert "33.33 [33.33, 33.33]" in page.replace("\\", "")
        assert "VALID" in page
    assert markdown(document(s)).splitlines()[0].startswith("# m on vllm, prompts: LIMA")


def test_a_simulated_run_says_so_in_every_report() -> None:
    s = summarise(manifest(simulated=True), RECORDS)
    assert "SIMULATED" in markdown(document(s)).splitlines()[0]
    assert "SIMULATED</h1>" in html(document(s)).replace(")</h1>", "</h1>")


def test_text_of_a_server_cannot_break_a_report() -> None:
    evil = "<script>alert(1)</script> | **x** `y` [a](http://b)\nnew line"
    broken = [*RECORDS[1:], record(0, outcome=Outcome.HTTP_4XX, error=evil)]
    s = summarise(manifest(model=evil), broken)
    assert "<script>" not in html(document(s))
    assert "&lt;script&gt;" in html(document(s))
    assert "<script>" not in markdown(document(s)).replace("\\<script\\>", "")
    assert len(markdown(document(s)).splitlines()[0]) > 50


def test_a_page_needs_nothing_from_elsewhere() -> None:
    page = html(document(summarise(manifest(), RECORDS)))
    assert "http://" not in page
    assert "https://" not in page
    assert "src=" not in page


def test_two_runs_are_compared_prompt_by_prompt() -> None:
    def slower(r: RequestRecord, ms: int) -> RequestRecord:
        return record(
            r.prompt_row,
            sent_ns=(r.sent_ns or 0) - ms * 1_000_000,
            end_ns=r.end_ns,
            chunk_ns=r.chunk_ns,
            first_token_ns=r.first_token_ns,
            last_token_ns=r.last_token_ns,
        )

    table = compare((manifest(), RECORDS), (manifest(users=2), [slower(r, 2) for r in RECORDS[:30]]))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["TTFT, ms"] == ("100.00", "102.00", "2.00 [2.00, 2.00]")
    assert rows["TPOT, ms"] == ("10.00", "10.00", "0.00 [0.00, 0.00]")
    assert "30 prompts" in table.note
    assert "They differ in users." in table.note
    assert "VALID" in table.note


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=str(tmp_path)):
        report(tmp_path)


def test_an_slo_that_was_edited_in_the_manifest_is_named(tmp_path: Path) -> None:
    folder = kept(tmp_path, manifest(kind="throughput", scenario={"max_tokens": 512, "slo": "ttfb_ms=1"}), RECORDS[:1])
    with pytest.raises(DataError, match=r"run\.json, scenario\.slo: in 'ttfb_ms=1' 'ttfb_ms' is no limit"):
        report(folder)


def test_a_damaged_record_is_named_by_its_line(tmp_path: Path) -> None:
    folder = kept(tmp_path, manifest(), RECORDS[:1])
    with (folder / store.RECORDS).open("a") as file:
        file.write('{"schema": 1}\n')
    with pytest.raises(DataError, match=r"records.jsonl, line 2"):
        report(folder)


def test_the_command_reports_without_locust(tmp_path: Path) -> None:
    folder = kept(tmp_path, manifest(), RECORDS)
    program = (
        "import sys; from loadgen.cli import main; s = main(sys.argv[1:]); assert 'locust' not in sys.modules; exit(s)"
    )
    command = [sys.executable, "-c", program, "report", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "33.33" in done.stdout
    assert json.loads((folder / "summary.json").read_bytes())["verdict"]["status"] == "VALID"


def test_the_command_says_so_if_there_is_nowhere_to_print_to(tmp_path: Path) -> None:
    folder = kept(tmp_path, manifest(), RECORDS)
    command = f"exec {sys.executable} -m loadgen.cli report {folder} >&-"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "loadgen: standard output is closed, so nothing was shown.\n")


@pytest.mark.parametrize("arguments", [["report", "/nowhere"], [], ["nonsense"]])
def test_the_command_refuses_mistakes_without_a_traceback(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadgen.cli", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()

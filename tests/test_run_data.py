"""A run as data: frames of pandas, and files that other tools read."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, clean_environment
from msgspec.structs import replace

from loadgen import Run, metrics, read_run
from loadgen.errors import DataError
from loadgen.record import Outcome, Phase, RequestRecord, from_line
from loadgen.results.export import FORMATS, export, vllm

KEPT = ROOT / "tests" / "kept"
KINDS = ["speed", "throughput", "sweep", "rate", "distributed", "interrupted"]


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest) -> Run:
    return read_run(KEPT / request.param)


def test_the_frame_of_records_has_each_field_and_figure(run: Run) -> None:
    frame = run.records
    assert len(frame) == len(run.requests) > 0
    for row, r in zip(frame.to_dict("records"), run.requests, strict=True):
        for name, value in {
            "sent_ns": r.sent_ns,
            "output_tokens": r.output_tokens,
            "ttft_ms": metrics.ttft_ms(r),
        }.items():
            assert (value is None and pd.isna(row[name])) or row[name] == value
        assert (row["phase"], row["outcome"]) == (r.phase.value, r.outcome.value)
    assert "chunk_ns" not in frame
    assert pd.api.types.is_integer_dtype(frame["sent_ns"])


def test_frames_of_all_runs_have_the_same_types(tmp_path: Path) -> None:
    runs = [read_run(KEPT / kind) for kind in KINDS]
    runs.append(Run(replace(runs[0].manifest, run_id="drained"), [replace(r, chunk_ns=None) for r in runs[0].recorded]))
    assert len({tuple(run.records.dtypes.astype(str)) for run in runs}) == 1
    files = [path for run in runs for path in export(run, "parquet", tmp_path / f"{run.manifest.run_id}.parquet")]
    assert len({pq.read_schema(path).remove_metadata().to_string() for path in files}) == 1
    (steps,) = duckdb.sql(f"select count(step) from '{tmp_path}/*.parquet' where phase = 'measure'").fetchall()
    assert steps == (sum(r.step is not None for run in runs for r in run.requests if r.phase is Phase.MEASURE),)


def test_frames_agree_with_the_summary(run: Run) -> None:
    frame = run.records[(run.records["phase"] == "measure") & (run.records["outcome"] == "ok")]
    assert len(frame) == run.summary.requests.completed
    known = run.summary.latency["e2e_ms"]
    if known.mean is not None:
        assert frame["e2e_ms"].mean() == pytest.approx(known.mean)
    assert list(run.checks["name"]) == [check.name for check in run.summary.verdict.checks]
    assert len(run.steps) == len(run.summary.steps or ())
    gaps = run.chunks.dropna()
    expected = [gap for r in run.requests if r.outcome is Outcome.OK for gap in metrics.icl_ms(r)]
    complete = gaps[gaps["request_id"].isin({r.request_id for r in run.requests if r.outcome is Outcome.OK})]
    assert complete["gap_ms"].to_list() == pytest.approx(expected)


def test_nested_figures_of_steps_are_columns() -> None:
    run = read_run(KEPT / "sweep")
    assert run.steps["concurrency"].to_list() == [step.concurrency for step in run.summary.steps or ()]
    assert "requests_per_minute.value" in run.steps


def test_pandas_and_duckdb_read_what_is_exported(run: Run, tmp_path: Path) -> None:
    paths = {name: tmp_path / FORMATS[name].file_name for name in ("parquet", "csv")}
    for name, path in paths.items():
        export(run, name, path)
    from_parquet, from_csv = pd.read_parquet(paths["parquet"]), pd.read_csv(paths["csv"])
    for frame in (from_parquet, from_csv):
        assert frame["request_id"].to_list() == run.records["request_id"].to_list()
        np.testing.assert_allclose(frame["e2e_ms"].astype(float), run.records["e2e_ms"].astype(float))
    assert [None if at is None else list(at) for at in from_parquet["chunk_ns"]] == [r.chunk_ns for r in run.requests]
    assert json.loads(pq.read_schema(paths["parquet"]).metadata[b"loadgen.run.json"])["run_id"] == run.manifest.run_id
    query = "select count(*), count(e2e_ms), sum(output_tokens) from '{}' where phase = 'measure'"
    (counted, from_text) = (duckdb.sql(query.format(path)).fetchall() for path in paths.values())
    measured = [r for r in run.requests if r.phase is Phase.MEASURE]
    tokens = [r.output_tokens for r in measured if r.output_tokens is not None]
    assert counted == from_text == [(len(measured), run.summary.requests.completed, sum(tokens) or None)]


def record(**fields: object) -> RequestRecord:
    base = {"schema": 1, "request_id": "r", "phase": "measure", "outcome": "ok"}
    at = {name: value * 1_000_000 for name, value in fields.items() if name.endswith("_ns") and isinstance(value, int)}
    return from_line(json.dumps(base | fields | at).encode())


READ_TOKEN_BY_TOKEN = record(
    connect_ns=0,
    connected_ns=5,
    sent_ns=5,
    first_token_ns=205,
    last_token_ns=805,
    end_ns=820,
    chunk_ns=[(205 + 40 * n) * 1_000_000 for n in range(16)],
    chunks=16,
    first_chunk_tokens=4,
    output_tokens=64,
    input_tokens=10,
)
"""5 ms to connect, 16 chunks of 4 tokens, 40 ms apart."""
DRAINED = record(sent_ns=900, first_token_ns=950, last_token_ns=1050, end_ns=1100, output_tokens=11, input_tokens=9)
FAILED = record(outcome="http_5xx", error="HTTP 500: no", sent_ns=1200, end_ns=1220)


def test_the_file_of_vllm_has_its_definitions() -> None:
    kept = read_run(KEPT / "throughput")
    found = vllm.result(Run(kept.manifest, [FAILED, DRAINED, READ_TOKEN_BY_TOKEN]))
    assert found["ttfts"] == [0.205, 0.05, None]
    assert found["latencies"] == [0.805, 0.15, None]
    assert found["mean_tpot_ms"] == pytest.approx((600 / 63 + 100 / 10) / 2)
    assert found["mean_itl_ms"] == pytest.approx(40)
    assert found["itls"][1:] == [None, None]
    assert (found["completed"], found["failed"], found["num_prompts"]) == (2, 1, 3)
    assert found["duration"] == pytest.approx(1.22)
    assert found["total_output_tokens"] == 75
    assert found["output_throughput"] == pytest.approx(75 / 1.22)
    assert found["p99_ttft_ms"] == pytest.approx(float(np.percentile([205, 50], 99)))
    assert found["errors"] == ["", "", "HTTP 500: no"]
    assert (found["request_rate"], found["max_concurrency"]) == ("inf", kept.manifest.users)
    assert "generated_texts" not in found


def test_a_sweep_is_laid_out_as_the_sweeps_of_vllm(tmp_path: Path) -> None:
    run = read_run(KEPT / "sweep")
    files = export(run, "vllm", tmp_path / "vllm.json")
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        f"vllm/step={number}-max_concurrency={users}/{name}.json"
        for number, users in enumerate([1, 2, 4])
        for name in ("run=0", "summary")
    ]
    results, (totals, *_) = [json.loads(path.read_text()) for path in files[::2]], json.loads(files[-1].read_text())
    assert [found["max_concurrency"] for found in results] == [1, 2, 4]
    assert sum(found["completed"] for found in results) == run.summary.requests.completed
    assert sum(len(found["ttfts"]) for found in results) == len(vllm.result(run)["ttfts"])
    assert totals["run_number"] == 0
    lists = {name for name, value in results[-1].items() if isinstance(value, list)}
    assert lists == results[-1].keys() - totals.keys()


def test_a_step_without_a_measured_request_is_left_out(tmp_path: Path) -> None:
    run = read_run(KEPT / "sweep")
    without_first = Run(run.manifest, [r for r in run.recorded if r.step != 0])
    assert len(export(without_first, "vllm", tmp_path / "vllm.json")) == 4
    with pytest.raises(DataError, match="no step has a measured request"):
        export(Run(run.manifest, []), "vllm", tmp_path / "vllm.json")


def export_command(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "loadgen.cli", "export", *map(str, arguments)]
    return subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=False)


def test_the_command_writes_the_file_and_prints_its_name(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    done = export_command(KEPT / "rate", "--format", "vllm", "--output", target)
    assert (done.returncode, done.stdout.strip()) == (0, str(target)), done.stderr
    assert json.loads(target.read_text())["request_rate"] == read_run(KEPT / "rate").manifest.scenario["rate"]


def test_what_cannot_be_exported_is_named(tmp_path: Path) -> None:
    no_run, no_format = export_command(tmp_path, "--format", "csv"), export_command(KEPT / "rate", "--format", "xlsx")
    nowhere = export_command(KEPT / "rate", "--format", "csv", "--output", tmp_path / "no" / "such" / "file.csv")
    for done, words in ((no_run, "no run.json there"), (no_format, "invalid choice"), (nowhere, "such")):
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr

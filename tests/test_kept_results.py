"""Results folders and golden lists: what other people's scripts read stays readable, and stays there.

``kept/`` holds one folder of each kind as it was written before the request model (752aa1a); it is never rewritten. The
lists in ``golden/`` are rewritten where ``LOADGEN_RECORD`` is set; each change of one belongs in CHANGELOG.md.
"""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen import metrics
from loadgen.exporter import families, otel
from loadgen.exporter.feed import Begin, End, Tick
from loadgen.exporter.totals import Totals
from loadgen.matrix.gather import links, results
from loadgen.matrix.markdown import markdown
from loadgen.matrix.matrix import reopen
from loadgen.matrix.tables import document
from loadgen.measure.check import Status
from loadgen.measure.gaps import all_gaps_ms
from loadgen.measure.histogram import Histogram
from loadgen.measure.process_report import ProcessReport
from loadgen.measure.verdict import Verdict
from loadgen.record import RequestRecord
from loadgen.results.compare import compare
from loadgen.results.report import report
from loadgen.results.store import read_folder
from loadgen.scenario import Scenario, flag

KEPT = Path(__file__).parent / "kept"
GOLDEN = Path(__file__).parent / "golden"
RECORD = "LOADGEN_RECORD"
RUNS = ("speed", "throughput", "sweep", "rate", "distributed", "interrupted")


def decoded(path: Path) -> Any:
    return msgspec.json.decode(path.read_bytes())


def golden(name: str, lines: Sequence[str]) -> list[str]:
    """Return a list as it is kept; written first, where that is asked for."""
    path = GOLDEN / f"{name}.txt"
    if RECORD in os.environ:
        path.write_text("".join(f"{line}\n" for line in lines))
    return path.read_text().splitlines()


GAINED = re.compile(r"\.(requests_per_minute(\.value|\.ci95)?|output_tokens_per_second(_ci95)?|plateau)$")
"""Paths of figures of a window that older editions left out where it had fewer than 30 answers."""


def assert_alike(found: Any, kept: Any, where: str = "", *, rough: bool = False) -> None:
    """All that was there is there, with the same value; figures may differ in their last digits.

    ``rough``: an interval, which a later edition may have widened by a little.
    """
    if kept in (None, []) and GAINED.search(where):
        return
    if isinstance(kept, dict):
        assert isinstance(found, dict), where
        assert kept.keys() <= found.keys(), f"{where}: {sorted(kept.keys() - found.keys())} is missing"
        for key, value in kept.items():
            assert_alike(found[key], value, f"{where}.{key}", rough=key == "ci95")
    elif isinstance(kept, list):
        assert isinstance(found, list), where
        assert len(found) == len(kept), where
        for index, value in enumerate(kept):
            assert_alike(found[index], value, f"{where}[{index}]", rough=rough)
    elif isinstance(kept, float):
        assert math.isclose(found, kept, rel_tol=1e-3 if rough else 1e-9, abs_tol=1e-12), (
            f"{where}: {found}, was {kept}"
        )
    else:
        assert found == kept, where


def statuses(checks: list[dict[str, str]]) -> dict[str, str]:
    """The status of each check by its name: later editions have more checks, and may word them better."""
    return {check["name"]: check["status"] for check in checks}


@pytest.mark.parametrize("kind", RUNS)
def test_an_older_folder_has_the_summary_it_had(kind: str, tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT / kind, tmp_path / kind)
    report(folder)
    found, kept = decoded(folder / "summary.json"), decoded(KEPT / kind / "summary.json")
    checks_found, checks_kept = (statuses(summary["verdict"].pop("checks")) for summary in (found, kept))
    if kind == "sweep":  # older editions wanted as many answers in every step
        assert (checks_kept.pop("enough samples"), checks_found["enough samples"]) == ("warn", "ok")
    assert checks_kept.items() <= checks_found.items()
    assert_alike(found, kept)
    for name in ("report.md", "report.html"):
        assert decoded(folder / "run.json")["model"] in (folder / name).read_text()


@pytest.mark.parametrize("kind", RUNS)
def test_each_of_its_records_is_read_field_by_field(kind: str) -> None:
    lines = (KEPT / kind / "records.jsonl").read_bytes().splitlines()
    records = [msgspec.to_builtins(record) for record in read_folder(KEPT / kind)[1]]
    assert len(records) == len(lines) > 0
    assert_alike(records, [msgspec.json.decode(line) for line in lines])


def test_two_older_folders_can_be_compared() -> None:
    table = compare(read_folder(KEPT / "throughput"), read_folder(KEPT / "distributed"))
    assert len(table.rows) >= 3
    assert all(cell.strip() for row in table.rows for cell in row)


def test_the_command_reports_and_compares_them(tmp_path: Path) -> None:
    first, second = (shutil.copytree(KEPT / kind, tmp_path / kind) for kind in ("throughput", "distributed"))
    command = [sys.executable, "-m", "loadgen.cli", "report", str(first), "--beside", str(second)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    verdict = Verdict(decoded(first / "summary.json")["verdict"]["status"])
    assert (done.returncode, done.stderr) == (verdict.exit_status, "")
    assert "Side by side" in done.stdout


def test_an_older_matrix_has_the_tables_it_had(tmp_path: Path) -> None:
    folder = shutil.copytree(KEPT / "matrix", tmp_path / "matrix")
    matrix = reopen(folder, tmp_path)
    found = results(matrix)
    page = markdown(document(found, dataset="the project's own samples", links=links(matrix)))
    assert tables_of(page) == tables_of((KEPT / "matrix" / "matrix.md").read_text())


def tables_of(page: str) -> list[str]:
    """The rows of all tables of a page."""
    return [line for line in page.splitlines() if line.startswith("|")]


# Lists.


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all keys; of a list those of its elements together."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}" if path else key
            yield from keys_of(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner, f"{path}[]")


@pytest.mark.parametrize("name", ["summary", "run"])
def test_the_keys_of_a_runs_files_are_those_of_the_list(name: str, tmp_path: Path) -> None:
    lines = []
    for kind in RUNS:
        folder = shutil.copytree(KEPT / kind, tmp_path / kind)
        report(folder)
        lines += [f"{kind}: {key}" for key in sorted(set(keys_of(decoded(folder / f"{name}.json"))))]
    assert lines == golden(f"{name}-keys", lines)


def test_the_fields_of_a_record_are_those_of_the_list() -> None:
    lines = list(RequestRecord.__struct_fields__)
    assert lines == golden("record-fields", lines)


def test_the_options_are_those_of_the_list() -> None:
    lines = []
    for f in fields(Scenario):
        where = "web UI" if f.metadata["web_ui"] else "command line"
        kind = f.metadata["kind"].__name__
        lines.append(f"{flag(f.name)} LOADGEN_{f.name.upper()} {kind} {f.default!r}, {where}")
    assert lines == golden("options", lines)


def test_checks_and_statuses_are_those_of_the_list(tmp_path: Path) -> None:
    lines = [f"status: {status.value}" for status in Status]
    lines += [f"exit status {verdict.exit_status}: {verdict.value}" for verdict in Verdict]
    for kind in RUNS:
        folder = shutil.copytree(KEPT / kind, tmp_path / kind)
        lines += [f"{kind}: {check.name}" for check in report(folder).verdict.checks]
    assert lines == golden("checks", lines)


def exported() -> Totals:
    """What an exporter is told of a run of a rate with an SLO, all of whose figures are there."""
    manifest, records = read_folder(KEPT / "rate")
    totals = Totals(
        Begin(
            run_id=manifest.run_id,
            model=manifest.model,
            engine=manifest.engine,
            endpoint=manifest.host,
            run_kind=manifest.kind,
            dataset="samples",
            reservation="SIMULATED",
            slo="ttft_ms=500,e2e_ms=900",
            rate=20.0,
            price_per_gpu_hour=2.5,
            at=1.0,
        )
    )
    latencies: Mapping[str, Sequence[float | None]] = {
        "ttft_ms": [metrics.ttft_ms(r) for r in records],
        "tpot_ms": [metrics.tpot_ms(r) for r in records],
        "itl_ms": all_gaps_ms(records),
        "e2e_ms": [metrics.e2e_ms(r) for r in records],
    }
    histograms = {name: histogram([v for v in values if v is not None]) for name, values in latencies.items()}
    known = [msgspec.structs.replace(r, cached_tokens=1, name="first question") for r in records]
    totals.take(
        ProcessReport(
            run_id="run",
            worker=0,
            sequence=1,
            records=known,
            histograms={name: h.to_wire() for name, h in histograms.items()},
            started=len(records),
            in_flight=0,
            cpu_share=0.1,
            loop_lag=histogram([0.5]).to_wire(),
            users=1,
            settled_ns=0,
        )
    )
    totals.take(
        Tick(
            at=2.0,
            state="measuring",
            users=2,
            step=0,
            verdict="VALID",
            checks={"client lag": "ok"},
            workers=1,
            lost=0,
        )
    )
    totals.take(End(verdict="WARN", checks={"client lag": "warn"}))
    return totals


def histogram(values: Sequence[float]) -> Histogram:
    made = Histogram()
    made.add(values)
    return made


@pytest.mark.parametrize(("name", "families_of"), [("llmload", families.families), ("otel", otel.families)])
def test_metrics_and_their_labels_are_those_of_the_list(name: str, families_of: Any) -> None:
    lines = []
    for metric in families_of(exported()):
        labels = {sample.name: " ".join(sample.labels) for sample in metric.samples}
        lines += [f"{metric.type} {sample}: {of}" for sample, of in sorted(labels.items())]
    assert lines == golden(f"metrics-{name}", lines)

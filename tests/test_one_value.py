"""One value per figure: terminal, Markdown, HTML, web page, JSON, data frames and Prometheus say the same of a run.

One run of each kind, in two processes where it has several users, each with its web UI and its exporter.
"""

import html
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster import Starter, engine
from conftest import ROOT, free_port
from scraping import ANY_PORT, samples, scrape, url_of

from loadgen import read_run
from loadgen.exporter.buckets import RATIO
from loadgen.measure.check import CheckResult, Status
from loadgen.metrics import EXPORTED, LATENCIES, PER_REQUEST
from loadgen.results.headline import headline
from loadgen.results.markdown import escaped as markdown_escaped
from loadgen.results.run_data import Run
from loadgen.results.table import Table
from loadgen.results.tables import answers, figures_of_the_run, latency_table, tables

KINDS = {
    "speed": ("chat", "--users 1 --requests 30"),
    "closed loop": ("chat", "--users 8 --requests 400 --processes 2"),
    "sweep": ("sweep", "--steps 2,4,8 --step-time 6 --processes 2 --slo ttft_ms=500,e2e_ms=5000"),
    "rate": ("rate", "--rate 20 --requests 120 --processes 2"),
}
COMMON = "--max-tokens 12 --warmup 2 --sample 60 --autostart --autoquit 600 --web-host 127.0.0.1"
LEFT_OUT_ON_TERMINALS = ("Requests", "Checks", "Engine", "Instrument")


@dataclass
class Shown:
    """Everything that shows a run that has ended."""

    run: Run
    folder: Path
    terminal: str
    markdown: str
    html: str
    page: dict[str, Any]
    """Data of the web page."""
    locust: dict[str, Any]
    """Locust's rows, by name."""
    tab: list[dict[str, str]]
    """Rows of the LLM tab."""
    metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module", params=KINDS)
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    locustfile, options = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    starter = Starter(folder)
    web, master = str(free_port()), str(free_port())
    ports = (
        "--web-port",
        web,
        *(("--master-bind-port", master, "--master-port", master) if "processes" in options else ()),
    )
    with engine(folder, ttft_ms=30, itl_ms=4) as server:
        asked = ("--host", server.host, *options.split(), *COMMON.split(), *ports, *ANY_PORT)
        started = starter(*asked, locustfile=ROOT / "locustfiles" / f"{locustfile}.py")
        url = f"http://127.0.0.1:{web}"
        due = time.monotonic() + 300
        while (page := _json(f"{url}/llm/data")) is None or page["run"]["state"] != "ended":
            assert time.monotonic() < due, started.said
            assert started.process.poll() is None, started.said
            time.sleep(0.2)
        while "Results:" not in started.said:
            assert time.monotonic() < due, started.said
            time.sleep(0.1)
        rows = _json(f"{url}/stats/requests")
        assert rows is not None
        yield Shown(
            run=read_run(started.folder),
            folder=started.folder,
            terminal=_plain(started.said),
            markdown=(started.folder / "report.md").read_text(),
            html=_plain(html.unescape(re.sub(r"<[^>]+>", " ", (started.folder / "report.html").read_text()))),
            page=page,
            locust={row["name"]: row for row in rows["stats"]},
            tab=rows["extended_stats"][0]["data"],
            metrics=samples(scrape(url_of(started))),
        )
        starter.end()


def _json(url: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found
    except OSError:
        return None


def _plain(text: str) -> str:
    return " ".join(text.split())


def cells(table: Table, *, on_terminal: bool = False) -> Iterator[str]:
    for row in table.rows:
        for index, cell in enumerate(row):
            if not (on_terminal and index in table.wide):
                yield cell


def test_the_reports_show_every_figure_of_the_summary(shown: Shown) -> None:
    for table in tables(shown.run.summary):
        for cell in cells(table):
            assert _plain(cell) in shown.html, (table.title, cell)
            assert markdown_escaped(cell) in shown.markdown, (table.title, cell)


def test_the_terminal_shows_the_figures_of_the_reports(shown: Shown) -> None:
    for table in tables(shown.run.summary):
        if not table.title.startswith(LEFT_OUT_ON_TERMINALS):
            for cell in cells(table, on_terminal=True):
                assert _plain(cell) in shown.terminal, (table.title, cell)


def test_the_page_of_an_ended_run_shows_the_tables_of_the_report(shown: Shown) -> None:
    summary = shown.run.summary
    expected = [table for table in [*answers(summary), latency_table(summary)] if table.rows]
    result = shown.page["result"]
    assert [table["title"] for table in result["tables"]] == [table.title for table in expected]
    for found, table in zip(result["tables"], expected, strict=True):
        assert [tuple(row) for row in found["rows"]] == list(table.rows)
    assert result["headline"]["text"] == headline(summary).text


def test_the_tab_of_an_ended_run_shows_its_result_and_nothing_of_its_last_seconds(shown: Shown) -> None:
    summary, rows = shown.run.summary, {row["metric"]: row for row in shown.tab}
    of, figures = figures_of_the_run(summary)
    assert rows["result"]["value"] == headline(summary).text
    assert rows["verdict"]["value"].partition(":")[0] == summary.verdict.status.value
    assert rows["completed"]["value"] == f"{summary.requests.completed:,}"
    if (speed := figures["output_tokens_per_second"]) is not None:
        assert rows[f"output tokens/s ({of})"]["value"] == f"{speed:,.1f}"
    assert not [name for name in rows if "last" in name or "so far" in name]


def test_the_values_on_the_page_are_those_of_the_summary(shown: Shown) -> None:
    summary, page = shown.run.summary, shown.page
    of, figures = figures_of_the_run(summary)
    assert page["figures_of"] == of
    for key in ("requests_per_minute", "output_tokens_per_second"):
        assert page["now"][key] == figures[key]
    for metric in LATENCIES:
        if metric.key in figures["latency"]:
            found = page["now"]["latency"][metric.key]
            assert all(found.get(p) == figures["latency"][metric.key].percentile(p) for p in ("p50", "p90", "p99"))
    assert page["verdict"]["status"] == summary.verdict.status.value
    assert len(page["steps"]) == (len(summary.steps or ()) if summary.is_sweep else 0)
    for step, row in zip(summary.steps or (), page["steps"], strict=False):
        assert row["requests_per_minute"]["value"] == (step.requests_per_minute and step.requests_per_minute.value)
        assert all(row["latency"][key].get("p50") == of.p50 for key, of in step.latency.items())


def test_the_summary_on_disk_is_that_of_the_records(shown: Shown) -> None:
    on_disk = json.loads((shown.folder / "summary.json").read_bytes())
    assert json.loads(shown.run.summary.json()) == on_disk


def test_data_frames_have_the_figures_of_the_summary(shown: Shown) -> None:
    measured = shown.run.records[(shown.run.records["phase"] == "measure") & (shown.run.records["outcome"] == "ok")]
    summary = shown.run.summary
    assert len(measured) == summary.requests.completed
    for metric in PER_REQUEST:
        if metric.key in summary.latency and summary.latency[metric.key].n:
            values = measured[metric.key].dropna().sort_values()
            assert len(values) == summary.latency[metric.key].n
            assert values.mean() == pytest.approx(summary.latency[metric.key].mean)
            assert values.iloc[len(values) // 2] == summary.latency[metric.key].p50


def test_prometheus_counts_what_the_summary_counts(shown: Shown) -> None:
    summary, metrics = shown.run.summary, shown.metrics
    assert metrics["llmload_requests_total", (("outcome", "ok"),)] == summary.requests.completed
    assert metrics["llmload_tokens_total", (("type", "output"),)] == summary.tokens.output
    assert metrics["llmload_verdict", (("status", summary.verdict.status.value),)] == 1
    objections = {Status.WARN, Status.INVALID, Status.INCONCLUSIVE}
    for check in summary.verdict.checks:
        assert isinstance(check, CheckResult)
        if check.status in objections:
            assert metrics["llmload_objection", (("check", check.name), ("status", check.status.value))] == 1


def test_prometheus_has_the_same_latencies_to_the_width_of_a_bucket(shown: Shown) -> None:
    """Of all measured requests, as a histogram has them; of a sweep all steps together."""
    for metric in EXPORTED:
        if metric.of is None:
            continue
        measured = [r for r in shown.run.requests if r.phase == "measure"]
        values = sorted(value for r in measured if (value := metric.of(r)) is not None)
        assert shown.metrics[f"{metric.histogram}_count", ()] == len(values)
        assert shown.metrics[f"{metric.histogram}_sum", ()] == pytest.approx(sum(values) / 1000)
        median = values[len(values) // 2]
        assert median / RATIO <= 1000 * _quantile(shown, metric.histogram, 0.5) <= median * RATIO
        if not shown.run.summary.is_sweep:
            assert shown.run.summary.latency[metric.key].p50 == median


def _quantile(shown: Shown, histogram: str, quantile: float) -> float:
    """The upper bound of the bucket that holds a quantile, s."""
    buckets = {
        float(labels[0][1]): count for (name, labels), count in shown.metrics.items() if name == f"{histogram}_bucket"
    }
    rank = int(quantile * max(buckets.values())) + 1
    return min(bound for bound, count in buckets.items() if count >= rank)


def test_locusts_rows_have_the_mean_and_the_number_of_the_summary(shown: Shown) -> None:
    ok = [r for r in shown.run.requests if r.phase == "measure" and r.outcome == "ok"]
    for metric in PER_REQUEST:
        if metric.in_locust and metric.of is not None:
            values = [value for r in ok if (value := metric.of(r)) is not None]
            row = shown.locust[metric.heading]
            assert row["num_requests"] == len(values)
            assert row["avg_response_time"] == pytest.approx(sum(values) / len(values), rel=1e-3)


def test_warm_up_requests_are_in_no_figure(shown: Shown) -> None:
    warm_up = [r for r in shown.run.requests if r.phase == "warmup"]
    assert warm_up
    total = sum(value for (name, _), value in shown.metrics.items() if name == "llmload_requests_total")
    assert total == len(shown.run.requests) - len(warm_up)
    assert shown.run.summary.latency["e2e_ms"].n <= len(shown.run.requests) - len(warm_up)

"""The page of a run, and its rows in Locust's own page. The browser's side is in test_page_of_a_run.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from support.virtual_engine import Engine
from support.virtual_run import VirtualLocust

from loadgen.live.page import ASSETS, PAGE, asset
from loadgen.live.result_files import result_files
from loadgen.live.rows import ORDER, rows
from loadgen.run.load.sweep import Sweep

IDLE: dict[str, Any] = {"run": {"state": "idle"}, "now": {}, "series": {}, "steps": [], "verdict": {}, "workers": []}
NOW: dict[str, Any] = {
    "step": 2,
    "steps": 8,
    "concurrency": 32,
    "in_flight": 31,
    "failed": 0,
    "output_tokens_per_second": 1639.25,
    "requests_per_minute": None,
    "latency": {"ttft_ms": {"p50": 94.512, "p90": 131.0, "n": 120}, "e2e_ms": {"n": 3}},
}


OURS = {name: asset(name).decode() for name, path in ASSETS.items() if not path.startswith("vendor/")}
HEADLINE = {"text": "84.37 tokens/s (95 % interval 84.01 to 84.70): one user"}


def found(**changes: Any) -> dict[str, dict[str, str]]:
    data = {
        "run": {"state": "measuring"},
        "now": NOW,
        "figures_of": "last 10 s",
        "verdict": {"status": "WARN", "checks": []},
    }
    return {row["metric"]: row for row in rows(data | changes)}


@pytest.mark.parametrize(
    "way",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser", "srcdoc"],
)
def test_the_page_takes_no_text_for_markup(way: str) -> None:
    assert [name for name, text in OURS.items() if way in text] == []


def test_the_page_refers_to_nothing_outside() -> None:
    for name, text in OURS.items():
        assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|@import|url\(|import\(", text), name
    links = set(re.findall(r'(?:href|src)="([^"]*)"', OURS[PAGE])) - {"data:,", "./", "llm"}
    assert {link.removeprefix("llm/assets/") for link in links} <= set(ASSETS)


def test_the_page_finds_its_data_and_locust_wherever_it_is_served() -> None:
    addresses = re.findall(r'(?:href|src|fetch\()[="]+([^"]*)"', OURS[PAGE] + OURS["llm.js"])
    assert "llm/data" in addresses
    assert not [address for address in addresses if address.startswith("/")]


def test_only_files_of_the_page_are_its_assets() -> None:
    for name in ("../page.py", "page.py", "web/llm.js", "/etc/passwd", ""):
        with pytest.raises(KeyError):
            asset(name)


def test_there_is_one_copy_of_uplot_with_its_licence() -> None:
    copies = {path.resolve() for folder in ("loadgen", "grafana") for path in (ROOT / folder).rglob("uPlot*.js")}
    vendored = (ROOT / "loadgen" / "live" / "vendor" / "uplot-1.6.32").resolve()
    assert copies == {vendored / "uPlot.iife.min.js"}
    assert "MIT" in (vendored / "LICENSE").read_text()


def test_the_files_of_a_run_are_those_of_a_fixed_list_and_its_pictures(tmp_path: Path) -> None:
    for name in ("report.html", "records.jsonl", "records-0.jsonl", "throughput.png", "secret.txt", "notes.html"):
        (tmp_path / name).write_text("")
    (tmp_path / "summary.json").mkdir()
    assert list(result_files(tmp_path)) == ["report.html", "records.jsonl", "throughput.png"]


def test_rows_say_what_is_going_on_first_and_the_verdict_last() -> None:
    table = found()
    assert list(table) == [
        "run",
        "output tokens/s (last 10 s)",
        "requests/min (last 10 s)",
        "TTFT, ms (last 10 s)",
        "E2E, ms (last 10 s)",
        "requests in flight",
        "failed",
        "verdict so far",
    ]
    assert table["run"]["value"] == "measuring: step 3 of 8, 32 users"
    assert table["verdict so far"]["value"] == "WARN"
    assert table["output tokens/s (last 10 s)"]["value"] == "1,639.2"
    assert table["requests in flight"]["value"] == "31"
    percentiles = {name: table["TTFT, ms (last 10 s)"][name] for name in ("value", "p50", "p90", "p99")}
    assert percentiles == {"value": "", "p50": "94.51", "p90": "131.00", "p99": ""}


def test_rows_keep_their_order_when_they_are_sorted_as_locusts_page_does() -> None:
    table = list(found().values())
    assert sorted(table, key=lambda row: row[ORDER]) == table


def test_rows_of_a_run_that_has_ended_are_its_result() -> None:
    checks = [{"name": "client lag", "status": "warn"}, {"name": "failures", "status": "ok"}]
    now = {key: value for key, value in NOW.items() if key not in {"step", "steps", "concurrency", "in_flight"}}
    table = found(
        run={"state": "ended"},
        now=now | {"completed": 100, "output_tokens_per_second": 84.2},
        figures_of="the run",
        verdict={"status": "WARN", "checks": checks},
        result={"headline": HEADLINE},
    )
    assert list(table) == [
        "result",
        "output tokens/s (the run)",
        "TTFT, ms (the run)",
        "E2E, ms (the run)",
        "completed",
        "failed",
        "verdict",
    ]
    assert table["result"]["value"] == HEADLINE["text"]
    assert table["verdict"]["value"] == "WARN: client lag"


def test_rows_show_what_is_not_known_as_empty() -> None:
    table = found()
    assert table["requests/min (last 10 s)"]["value"] == ""
    assert table["E2E, ms (last 10 s)"]["p50"] == ""


def test_rows_show_only_latencies_that_are_measured() -> None:
    assert not any(name.startswith(("ITL", "ICL")) for name in found())


@pytest.mark.parametrize("data", [{}, IDLE, {"run": None, "now": None, "verdict": None}])
def test_rows_before_a_run_say_so(data: dict[str, Any]) -> None:
    table = rows(data)
    assert table[0]["value"] == "idle"
    assert all(set(row) == {ORDER, "metric", "value", "p50", "p90", "p99"} for row in table)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": None}, "measuring: step 3, 32 users"),
        ({"steps": None, "concurrency": None}, "measuring: step 3"),
        ({"step": None}, "measuring"),
    ],
)
def test_rows_name_only_as_much_of_the_step_as_is_known(changes: dict[str, Any], text: str) -> None:
    assert found(now=NOW | changes)["run"]["value"] == text


def test_what_the_page_gets_of_a_sweep_is_plain_json(tmp_path: Path) -> None:
    locust = VirtualLocust(
        tmp_path,
        lambda scenario: Sweep(scenario, 1, None),
        engine=Engine(service_s=0.05, places=4),
        steps="2,4",
        warm_up=1,
        step_time=4.0,
        precision="20%",
    )
    locust.has_result = False
    live = locust.drain().live
    steps = json.loads(json.dumps({"now": live.now(), "series": live.series(), "steps": live.steps}))["steps"]
    assert [step["concurrency"] for step in steps] == [2, 4]
    assert all(step["latency"]["e2e_ms"]["n"] > 0 for step in steps)

"""The page of a run that goes on, and its rows in Locust's own page. The browser's side is in test_web_ui.py."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.virtual_engine import Engine
from support.virtual_run import VirtualLocust

from loadgen.live.page import page
from loadgen.live.rows import rows
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


def found(**changes: Any) -> dict[str, dict[str, str]]:
    data = {
        "run": {"state": "measuring"},
        "now": NOW,
        "figures_of": "last 10 s",
        "verdict": {"status": "WARN", "checks": []},
    }
    return {row["name"]: row for row in rows(data | changes)}


@pytest.mark.parametrize(
    "way",
    ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser", "srcdoc"],
)
def test_the_page_takes_no_text_for_markup(way: str) -> None:
    assert way not in page()


def test_the_page_refers_to_nothing_outside() -> None:
    text = page().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|@import|url\(|<script src|import\(", text)
    assert re.findall(r"<link[^>]*>", text) == ['<link rel="icon" href="data:,">']


def test_the_page_finds_its_data_and_locust_wherever_it_is_served() -> None:
    assert 'fetch("llm/data"' in page()
    assert re.findall(r'href="([^"]*)"', page()) == ["data:,", "./", "./"]


def test_rows_say_what_is_going_on() -> None:
    table = found()
    assert table["run"]["now"] == "measuring: step 3 of 8, 32 users"
    assert table["verdict so far"]["now"] == "WARN"
    assert table["output tokens/s (last 10 s)"]["now"] == "1,639.2"
    assert table["requests in flight"]["now"] == "31"
    assert table["TTFT, ms (last 10 s)"] == {
        "name": "TTFT, ms (last 10 s)",
        "now": "",
        "p50": "94.51",
        "p90": "131.00",
        "p99": "",
    }


def test_rows_show_what_is_not_known_as_empty() -> None:
    table = found()
    assert table["requests/min (last 10 s)"]["now"] == ""
    assert table["E2E, ms (last 10 s)"]["p50"] == ""


def test_rows_show_only_latencies_that_are_measured() -> None:
    assert not any(name.startswith(("ITL", "ICL")) for name in found())


@pytest.mark.parametrize("data", [{}, IDLE, {"run": None, "now": None, "verdict": None}])
def test_rows_before_a_run_say_so(data: dict[str, Any]) -> None:
    table = rows(data)
    assert table[0]["now"] == "idle"
    assert all(set(row) == {"name", "now", "p50", "p90", "p99"} for row in table)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": None}, "measuring: step 3, 32 users"),
        ({"steps": None, "concurrency": None}, "measuring: step 3"),
        ({"step": None}, "measuring"),
    ],
)
def test_rows_name_only_as_much_of_the_step_as_is_known(changes: dict[str, Any], text: str) -> None:
    assert found(now=NOW | changes)["run"]["now"] == text


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

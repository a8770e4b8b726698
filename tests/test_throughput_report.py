"""Reports of a sweep and of an open loop: their tables, their pictures, and that nothing in them can do harm."""

from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from loadgen.measure.knee import knee
from loadgen.results import report as reports
from loadgen.results.html import html
from loadgen.results.markdown import markdown
from loadgen.results.pictures import pictures, png, svg
from loadgen.results.table import Table
from loadgen.results.tables import answers, tables
from loadgen.results.terminal import show_table

EVIL = "$\\frac$ </text></svg><script>alert(1)</script> | \u6a21\u578b &amp;"
SLO = "ttft_ms=200,tpot_ms=50"


def latency(p50: float, *, p99: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"n": 900, "n_eff": 700.0, "mean": 1.1 * p50, "p50": p50, "p90": 1.5 * p50}
    found |= {"ci95": {"p50": [0.97 * p50, 1.03 * p50]}, "not_resolvable": [] if p99 else ["p99"]}
    return found | ({"p99": 3 * p50} if p99 else {})


def step(number: int, concurrency: int, **changes: Any) -> dict[str, Any]:
    rate = min(60.0 * concurrency, 1000.0)
    found = {
        "step": number,
        "concurrency": concurrency,
        "window_seconds": 12.3,
        "failed": 0,
        "steady": True,
        "unsteady": None,
        "ended_by": "precision",
        "requests_per_minute": {"value": rate, "ci95": [0.98 * rate, 1.02 * rate], "n": 200},
        "output_tokens_per_second": 3 * rate,
        "output_tokens_per_second_ci95": [2.9 * rate, 3.1 * rate],
        "latency": {
            "ttft_ms": latency(30.0 + concurrency, p99=concurrency > 1),
            "tpot_ms": latency(10 + concurrency / 8),
            "itl_ms": latency(9 + concurrency / 8),
            "e2e_ms": latency(2000.0 + concurrency, p99=concurrency > 1),
        },
        "goodput": {
            "requests_per_minute": 0.99 * rate,
            "share": {"value": 0.99, "ci95": [0.97, 1.0], "n": 900},
            "slo": SLO,
        },
    }
    return found | changes


def summary(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    taken = steps or (
        step(0, 1),
        step(1, 8, steady=False, unsteady="TTFT still rose"),
        step(2, 16),
        step(3, 32, failed=3),
        step(4, 64),
    )
    rates = [
        (s["concurrency"], s["requests_per_minute"]["value"], tuple(s["requests_per_minute"]["ci95"])) for s in taken
    ]
    found = knee(rates)
    best = max(taken, key=lambda s: float(s["requests_per_minute"]["value"]))
    of_the_run = ("loop_lag_ms", "read_delay_ms", "timestamp_source", "coalesced_reads", "chunks", "calibration")
    numbers = ("streams_read_token_by_token", "streams", "replaced_connections", "cpu_seconds", "cpu_share")
    return {
        "schema": 1,
        "kind": "throughput",
        "run_id": "20260101-000000-throughput-m-0000",
        "dataset": "LIMA",
        "sample": {"prompts": 40, "rounds": 1},
        "engine": "vllm",
        "model": "m",
        "simulated": True,
        "verdict": {"status": "VALID", "checks": []},
        "requests": {"completed": 9, "failed": 0, "aborted": 0, "dropped": 0, "by_error": {}, "errors": {}},
        "latency": {"ttft_ms": latency(77.0)},
        "tokens": {"output": 9, "input": 9, "output_per_request": {}, "counted_by": {}, "finish_reasons": {}},
        "instrument": dict.fromkeys(of_the_run)
        | dict.fromkeys(numbers, 0)
        | {"gc_pauses": 0, "gc_longest_ms": 0.0}
        | {"interval_ms": dict.fromkeys(("first_token", "last_token", "end"))},
        "steps": list(taken),
        "throughput": {
            "requests_per_minute": best["requests_per_minute"],
            "at_concurrency": best["concurrency"],
            "output_tokens_per_second": best["output_tokens_per_second"],
            "knee": None if found is None else asdict(found),
            "goodput": best["goodput"] and {**best["goodput"], "at_concurrency": best["concurrency"]},
        },
    } | changes


def rate_summary(**changes: Any) -> dict[str, Any]:
    rate = {
        "asked_per_second": 20.0,
        "process": "gamma",
        "cv": 1.5,
        "max_in_flight": 1000,
        "scheduled": 12000,
        "dropped": 3,
        "unsteady": None,
        "requests_per_minute": {"value": 1188.2, "ci95": [1170.1, 1207.3], "n": 200},
        "output_tokens_per_second": 3600.0,
        "latency_from_schedule": {"ttft_ms": latency(2040.0), "e2e_ms": latency(4000.0)},
        "latency_from_send": {"ttft_ms": latency(40.0), "e2e_ms": latency(2000.0)},
        "send_lag_ms": latency(0.25),
        "goodput": step(0, 1)["goodput"],
    }
    found = summary(kind="rate", rate=rate | changes)
    del found["steps"], found["throughput"]
    return found


def rows(table: Table) -> dict[str, tuple[str, ...]]:
    return {row[0]: row[1:] for row in table.rows}


def column(table: Table, name: str) -> list[str]:
    at = table.columns.index(name)
    return [row[at] for row in table.rows]


def shown(table: Table) -> str:
    console = Console(width=100, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115 closed below
    with console.file:
        show_table(table, console)
        return console.export_text()


def test_the_answer_of_a_sweep_is_one_cell_with_its_interval_and_its_users() -> None:
    table, steps = answers(summary())
    assert table.columns == ("model", "vllm, requests/min [95 % interval]")
    assert rows(table)["m"] == ("1,000 [980, 1,020] at 32 users",)
    assert rows(table)[f"requests/min within {SLO}"] == ("990.0 at 32 users, 99.0 % [97.0, 100.0] of the requests",)
    assert "Closed loop" in table.note
    assert "Knee: throughput reaches 95 % of its highest between 8 and 32 users" in table.note
    assert steps.title.startswith("Steps")


def test_the_concurrency_table_has_a_row_for_each_step_and_says_what_to_know_of_it() -> None:
    table = answers(summary())[1]
    assert column(table, "users") == ["1", "8", "16", "32", "64"]
    assert column(table, "requests/min [95 % interval]")[0] == "60.00 [58.80, 61.20]"
    assert column(table, "TTFT p99, ms") == ["\N{EN DASH}", "114.0", "138.0", "186.0", "282.0"]
    assert column(table, "ITL p50, ms")[1] == "10.00"
    assert column(table, "within limits")[0] == "99.0 % [97.0, 100.0]"
    assert column(table, "failed") == ["0", "0", "0", "3", "0"]
    assert column(table, "notes")[:3] == ["p99 of TTFT and E2E not resolvable", "not steady: TTFT still rose", ""]


def test_a_column_that_no_step_has_is_left_out() -> None:
    bare = [step(i, 2**i, goodput=None, latency={"ttft_ms": latency(30.0)}) for i in range(1, 4)]
    table = answers(summary(*bare))[1]
    names = "users|requests/min [95 % interval]|output tokens/s|TTFT p50, ms|TTFT p99, ms|failed|window, s"
    assert "|".join(table.columns) == names


def test_gaps_between_chunks_of_several_tokens_have_a_column_of_their_own() -> None:
    steps = [step(i, 2**i, latency={"ttft_ms": latency(30.0), "icl_ms": latency(9.0)}) for i in range(3)]
    assert column(answers(summary(*steps))[1], "ICL p50, ms") == ["9.00"] * 3


def test_a_step_without_a_window_has_a_row_without_figures() -> None:
    empty = {"requests_per_minute": None, "window_seconds": None, "output_tokens_per_second": None, "latency": {}}
    broken = summary()
    broken["steps"].append(step(5, 128, **empty, goodput=None, steady=None, ended_by="broken off"))
    table = answers(broken)[1]
    assert table.rows[-1][:3] == ("128", "\N{EN DASH}", "\N{EN DASH}")
    assert table.rows[-1][-1] == "broken off"
    assert len(pictures(broken)) == 3


def test_a_limit_that_no_step_kept_is_said_so() -> None:
    found = summary()
    found["throughput"]["goodput"] = None
    assert rows(answers(found)[0])[f"requests/min within {SLO}"] == ("kept at no step by enough of the requests",)


def test_latencies_of_different_loads_are_not_mixed() -> None:
    latencies = next(table for table in tables(summary()) if table.title.startswith("Latency"))
    assert latencies.title == "Latency, ms, at 32 users"
    assert rows(latencies)["TTFT: sent to first token"][1] == "62.00"


def test_the_concurrency_table_fits_a_terminal_and_breaks_no_figure() -> None:
    text = shown(answers(summary())[1])
    assert max(map(len, text.splitlines())) <= 100
    assert "1,000 [980, 1,020]" in text
    assert "users 8: not steady: TTFT still rose" in text


def test_a_terminal_says_once_what_holds_for_several_steps() -> None:
    steps = [step(i, 2**i, latency={"ttft_ms": latency(30.0, p99=False)}) for i in range(4)]
    assert "users 1, 2, 4, 8: p99 of TTFT not resolvable" in shown(answers(summary(*steps))[1])


def test_a_plain_closed_loop_has_one_table_and_no_picture() -> None:
    one = summary(step(0, 8))
    (table,) = answers(one)
    assert rows(table)["m"] == ("480.0 [470.4, 489.6] at 8 users",)
    assert rows(table)["window, s"] == ("12.3",)
    assert pictures(one) == []
    assert "<svg" not in html(one)


def test_a_summary_from_before_sweeps_still_has_a_report() -> None:
    old = {"concurrency": 8, "window_seconds": 9.0, "requests_per_minute": {"value": 480.0, "ci95": None}}
    old |= {"output_tokens_per_second": 99.0, "latency": {}, "verdict": "VALID"}
    throughput = {"requests_per_minute": old["requests_per_minute"], "at_concurrency": 8}
    found = summary(steps=[old], throughput=throughput)
    assert rows(answers(found)[0])["m"] == ("480.0 at 8 users",)
    nothing = summary(steps=[], throughput={"requests_per_minute": None, "at_concurrency": 8})
    assert rows(answers(nothing)[0]) == {"m": ("\N{EN DASH}",)}
    for page in (markdown(found), html(found), markdown(nothing), html(nothing)):
        assert "vllm" in page


def test_an_open_loop_shows_what_was_asked_what_came_and_what_was_dropped() -> None:
    table = answers(rate_summary())[0]
    found = rows(table)
    assert found["asked, requests/s"] == ("20.00",)
    assert found["served, requests/s [95 % interval]"] == ("19.80 [19.50, 20.12]",)
    assert found["served, requests/min [95 % interval]"] == ("1,188 [1,170, 1,207]",)
    assert found["dropped, at 1,000 in flight"] == ("3",)
    assert "Open loop: requests begin by a schedule of gamma arrivals" in table.note


def test_an_open_loop_shows_latencies_from_the_schedule_beside_those_from_the_send() -> None:
    table = answers(rate_summary())[1]
    assert column(table, "p50") == ["2,040.00", "40.00", "4,000.00", "2,000.00", "0.25"]


def test_an_open_loop_without_a_window_still_has_a_report() -> None:
    absent = {key: None for key in rate_summary()["rate"] if key not in {"asked_per_second", "process", "scheduled"}}
    found = rate_summary(**absent)
    (table,) = answers(found)
    assert rows(table)["served, requests/s [95 % interval]"] == ("\N{EN DASH}",)
    assert "vllm" in html(found)
    assert pictures(found) == []


def test_a_sweep_has_three_pictures_and_each_names_its_points() -> None:
    found = {picture.name: svg(picture) for picture in pictures(summary())}
    assert set(found) == {"throughput-concurrency", "throughput-latency", "throughput-interactivity"}
    for drawing in found.values():
        texts = [e.text for e in ET.fromstring(drawing.replace("xlink:href", "href")).iter("text")]
        assert "8" in texts
    assert f"those within {SLO}" in found["throughput-concurrency"]
    assert "TTFT, ms" in found["throughput-latency"]
    assert "interactivity: tokens/s per user" in found["throughput-interactivity"]


def curves(found: dict[str, Any], name: str) -> list[tuple[int, int]]:
    """How many points and error bars the curves of a picture have, in its first axes."""
    figure = Figure()
    next(picture for picture in pictures(found) if picture.name == name).draw(figure)
    drawn = [(curve[0], bars.get_segments()) for curve in figure.axes[0].containers for bars in curve[2]]
    return [(len(line.get_xdata()), sum(len(ends) > 0 for ends in bars)) for line, bars in drawn]


def few_answers(number: int, users: int, n: int) -> dict[str, Any]:
    """A step of slow answers: a value without an interval, a median and no p99."""
    few = {"n": n, "n_eff": float(n), "mean": 9000.0, "p50": 9000.0, "ci95": {}, "not_resolvable": ["p99"]}
    none = {"value": 6.0 * users, "ci95": None, "n": n}
    latencies = dict.fromkeys(("ttft_ms", "tpot_ms", "e2e_ms"), few)
    return step(number, users, requests_per_minute=none, latency=latencies, output_tokens_per_second_ci95=None)


def test_pictures_keep_the_steps_with_few_answers_and_draw_no_error_bar_without_an_interval() -> None:
    found = summary(step(2, 16), step(3, 32), step(4, 64))
    found["steps"] = [few_answers(0, 1, 3), few_answers(1, 2, 6), *found["steps"]]
    assert curves(found, "throughput-concurrency")[-1] == (5, 3)
    assert {points for points, _ in curves(found, "throughput-latency")} == {5, 3}  # p50, and p99 where it is known
    assert {number for _, number in curves(found, "throughput-latency")} == {3}
    assert curves(found, "throughput-interactivity")[0] == (5, 3)


def test_pictures_leave_out_what_was_not_measured() -> None:
    steps = [step(i, 2**i, latency={}, output_tokens_per_second=None, goodput=None) for i in range(3)]
    assert [picture.name for picture in pictures(summary(*steps))] == ["throughput-concurrency"]


def test_without_tokens_latency_is_drawn_over_requests() -> None:
    steps = [step(i, 2**i, output_tokens_per_second=None) for i in range(3)]
    found = {picture.name: svg(picture) for picture in pictures(summary(*steps))}
    assert set(found) == {"throughput-concurrency", "throughput-latency"}
    assert "requests/min" in found["throughput-latency"]


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e12])
def test_odd_figures_can_be_drawn(value: float) -> None:
    odd = {"value": value, "ci95": [value, value], "n": 1}
    steps = [step(i, 2**i, requests_per_minute=odd, output_tokens_per_second=value) for i in range(2)]
    for picture in pictures(summary(*steps)):
        assert png(picture).startswith(b"\x89PNG")


def test_the_same_run_gives_the_same_pictures() -> None:
    first, second = pictures(summary()), pictures(summary())
    assert [svg(p) for p in first] == [svg(p) for p in second]
    assert [png(p) for p in first] == [png(p) for p in second]


def test_pictures_on_one_page_share_no_identifier() -> None:
    identifiers = [
        {e.get("id") for e in ET.fromstring(svg(p).replace("xlink:href", "href")).iter() if e.get("id")}
        for p in pictures(summary())
    ]
    assert not identifiers[0] & identifiers[1] | identifiers[1] & identifiers[2] | identifiers[0] & identifiers[2]


def test_text_of_a_run_cannot_break_a_picture_or_the_page() -> None:
    steps = [step(i, 2**i) for i in range(3)]
    for s in steps:
        s["goodput"]["slo"] = EVIL
    evil = summary(*steps, model=EVIL, engine=EVIL)
    page = html(evil)
    assert "<script" not in page
    assert page.count("</svg>") == 3
    assert "$\\frac" in svg(pictures(evil)[0]), "drawn as it is, not as mathematics"
    for picture in pictures(evil):
        assert png(picture).startswith(b"\x89PNG")


def test_the_page_holds_its_pictures_and_refers_to_nothing_outside() -> None:
    page = html(summary())
    assert page.count("<svg") == 3
    for reference in ("http:", "https:", "src=", "@import", "<link", "<style type"):
        assert reference not in page


def test_pictures_are_written_beside_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports.store, "read_folder", lambda _: (None, []))
    monkeypatch.setattr(reports.store, "merge_late", lambda _: None)
    monkeypatch.setattr(reports, "summarise", lambda *_: summary())
    reports.report(tmp_path)
    names = {"throughput-concurrency.png", "throughput-latency.png", "throughput-interactivity.png"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"summary.json", "report.md", "report.html"}
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)
    text = (tmp_path / "report.md").read_text()
    assert all(f"]({name})" in text for name in names)

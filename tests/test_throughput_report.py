"""Reports of a sweep and of an open loop: their tables, their pictures, and that nothing in them can do harm."""

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from msgspec.structs import replace
from rich.console import Console
from support.summaries import SLO, best, closed_loop, document, figure, latency, open_loop, step

from loadgen.measure.facts import Arrivals
from loadgen.measure.statistics import SMALLEST_SAMPLE, Distribution
from loadgen.results import report as reports
from loadgen.results.html import html
from loadgen.results.markdown import markdown
from loadgen.results.pictures.by_concurrency import by_concurrency as pictures
from loadgen.results.pictures.drawing import png, svg
from loadgen.results.rate import rate
from loadgen.results.summary_schema import StepSummary, Summary
from loadgen.results.table import Table
from loadgen.results.tables import answers, tables
from loadgen.results.terminal import show_table

EVIL = "$\\frac$ </text></svg><script>alert(1)</script> | \u6a21\u578b &amp;"


def summary(*steps: StepSummary, **changes: Any) -> Summary:
    """A closed loop of these steps; a sweep of five, one of them unsteady and one with failures, if none are given."""
    taken = steps or (
        step(0, 1),
        step(1, 8, steady=False, unsteady="TTFT still rose"),
        step(2, 16),
        step(3, 32, failed=3),
        step(4, 64),
    )
    return closed_loop(*taken, **changes)


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
    assert rows(table)["TTFT, TPOT, E2E, p50, ms at that"] == ("62.00 / 14.00 / 2,032",)
    assert rows(table)["TTFT, TPOT, E2E, p50, ms above the knee, at 32 users"] == ("62.00 / 14.00 / 2,032",)
    assert rows(table)[f"requests/min within {SLO}"] == ("990.0 at 32 users, 99.0 % [97.0, 100.0] of the requests",)
    assert "Closed loop" in table.note
    assert "Knee: throughput reaches 95 % of its highest between 8 and 32 users" in table.note
    assert steps.title.startswith("Steps")


def test_the_concurrency_table_has_a_row_for_each_step_and_says_what_to_know_of_it() -> None:
    table = answers(summary())[1]
    assert column(table, "users") == ["1", "8", "16", "32", "64"]
    assert column(table, "requests/min [95 % interval]")[0] == "60.00 [58.80, 61.20]"
    assert column(table, "TTFT p99, ms") == ["n<368", "114.0", "138.0", "186.0", "282.0"]
    assert column(table, "ITL p50, ms")[1] == "10.00"
    assert column(table, "within limits")[0] == "99.0 % [97.0, 100.0]"
    assert column(table, "failed") == ["0", "0", "0", "3", "0"]
    assert column(table, "notes")[:3] == ["", "not steady: TTFT still rose", ""]


def test_a_column_that_no_step_has_is_left_out() -> None:
    bare = [step(i, 2**i, goodput=None, latency={"ttft_ms": latency(30.0)}) for i in range(1, 4)]
    table = answers(summary(*bare))[1]
    names = "users|requests/min [95 % interval]|output tokens/s|TTFT p50, ms|TTFT p99, ms|failed|window, s"
    assert "|".join(table.columns) == names


def test_gaps_between_chunks_of_several_tokens_have_a_column_of_their_own() -> None:
    steps = [step(i, 2**i, latency={"ttft_ms": latency(30.0), "icl_ms": latency(9.0)}) for i in range(3)]
    assert column(answers(summary(*steps))[1], "ICL p50, ms") == ["9.00"] * 3


def test_a_step_without_a_window_has_a_row_without_figures() -> None:
    empty: dict[str, Any] = {"requests_per_minute": None, "window_seconds": None, "output_tokens_per_second": None}
    empty |= {"latency": {}, "goodput": None, "requests": None, "failed": None}
    whole = summary()
    last = step(5, 128, **empty, steady=None, ended_by="broken off")
    broken = replace(whole, steps=[*(whole.steps or []), last])
    table = answers(broken)[1]
    assert table.rows[-1][:3] == ("128", "\N{EN DASH}", "\N{EN DASH}")
    assert table.rows[-1][-1] == "broken off"
    assert len(pictures(broken)) == 4


def test_a_limit_that_no_step_kept_is_said_so() -> None:
    found = summary()
    assert found.throughput is not None
    nowhere = replace(found, throughput=replace(found.throughput, goodput=None))
    assert rows(answers(nowhere)[0])[f"requests/min within {SLO}"] == ("kept at no step by enough of the requests",)


def test_latencies_of_different_loads_are_not_mixed() -> None:
    latencies = next(table for table in tables(summary()) if table.title.startswith("Latency"))
    assert latencies.title == "Latency, ms, at 32 users"
    assert rows(latencies)["TTFT: sent to first token"][1] == "62.00"


def test_the_concurrency_table_fits_a_terminal_and_breaks_no_figure() -> None:
    text = shown(answers(summary())[1])
    assert max(len(line) for line in text.splitlines() if not line.startswith("  Throughput is")) <= 100
    assert "1,000 [980, 1,020]" in text
    assert "users 8: not steady: TTFT still rose" in text


def test_a_terminal_says_once_what_holds_for_several_steps() -> None:
    steps = [step(i, 2**i, steady=None, undecided="too few round trips") for i in range(4)]
    said = "users 1, 2, 4, 8: too short to tell whether it was steady"
    assert shown(answers(summary(*steps))[1]).count(said) == 1


def test_a_plain_closed_loop_has_one_table_and_no_picture() -> None:
    one = summary(step(0, 8))
    (table,) = answers(one)
    assert rows(table)["m"] == ("480.0 [470.4, 489.6] at 8 users",)
    assert rows(table)["window, s"] == ("12.3",)
    assert pictures(one) == []
    assert "<svg" not in html(document(one))


def test_a_closed_loop_without_an_interval_or_without_a_window_still_has_a_report() -> None:
    few = step(0, 8, requests_per_minute=figure(480.0), output_tokens_per_second_ci95=None, latency={}, goodput=None)
    found = summary(few)
    assert rows(answers(found)[0])["m"] == ("480.0 at 8 users",)
    nothing = summary(few, steps=[], throughput=best(None, 8))
    assert rows(answers(nothing)[0]) == {"m": ("\N{EN DASH}",)}
    for page in (
        markdown(document(found)),
        html(document(found)),
        markdown(document(nothing)),
        html(document(nothing)),
    ):
        assert "vllm" in page


def test_a_summary_of_an_older_version_is_made_anew(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "tests" / "kept" / "sweep", tmp_path / "run")
    now = reports.report(folder)
    of_today = json.loads((folder / "summary.json").read_bytes())
    step_keys = ("concurrency", "window_seconds", "requests_per_minute", "output_tokens_per_second", "latency")
    old = of_today | {"steps": [{key: each[key] for key in step_keys} for each in of_today["steps"]]}
    old |= {"throughput": {key: of_today["throughput"][key] for key in ("requests_per_minute", "at_concurrency")}}
    (folder / "summary.json").write_text(json.dumps(old))
    assert reports.summary_of(folder) == now
    assert json.loads((folder / "summary.json").read_bytes()) == of_today
    assert reports.summary_of(folder) == now, "as it is read from summary.json"


def test_an_open_loop_shows_what_was_asked_what_came_and_what_was_dropped() -> None:
    table = answers(open_loop())[0]
    found = rows(table)
    assert found["offered, requests/s"] == ("20.00",)
    assert found["served, requests/s [95 % interval]"] == ("19.80 [19.50, 20.12]",)
    assert found["served, requests/min [95 % interval]"] == ("1,188 [1,170, 1,207]",)
    assert found["dropped, at 1,000 in flight"] == ("3",)
    assert "Open loop: requests begin by a schedule of gamma arrivals" in table.note


def test_an_open_loop_shows_latencies_from_the_schedule_beside_those_from_the_send() -> None:
    table = answers(open_loop())[1]
    assert column(table, "p50") == ["2,040.00", "40.00", "4,000.00", "2,000.00", "0.25"]


def test_an_open_loop_without_a_window_still_has_a_report() -> None:
    asked = Arrivals(process="gamma", rate=20.0, cv=1.5, max_in_flight=1000)
    found = replace(open_loop(), rate=rate(asked, [], None))
    (table,) = answers(found)
    assert rows(table)["served, requests/s [95 % interval]"] == ("\N{EN DASH}",)
    assert "vllm" in html(document(found))
    assert pictures(found) == []


def test_a_sweep_has_pictures_by_concurrency_and_each_names_its_points() -> None:
    found = {picture.name: svg(picture) for picture in pictures(summary())}
    names = ("throughput-concurrency", "latency-concurrency", "throughput-latency", "throughput-interactivity")
    assert tuple(found) == names
    for drawing in found.values():
        texts = [e.text for e in ET.fromstring(drawing.replace("xlink:href", "href")).iter("text")]
        assert "8" in texts
    assert f"those within {SLO}" in found["throughput-concurrency"]
    assert "TTFT, ms" in found["throughput-latency"]
    assert "interactivity: tokens/s per user" in found["throughput-interactivity"]


def curves(found: Summary, name: str) -> list[tuple[int, int]]:
    """How many points and error bars the curves of a picture have, in its first axes."""
    drawing = Figure()
    next(picture for picture in pictures(found) if picture.name == name).draw(drawing)
    drawn = [(curve[0], bars.get_segments()) for curve in drawing.axes[0].containers for bars in curve[2]]
    return [(len(line.get_xdata()), sum(len(ends) > 0 for ends in bars)) for line, bars in drawn]


def few_answers(number: int, users: int, n: int) -> StepSummary:
    """A step of slow answers: a value without an interval, and of the percentiles only a median."""
    needs = {name: fewest for name, fewest in SMALLEST_SAMPLE.items() if name != "p50"}
    few = Distribution(n=n, n_eff=n, mean=9000.0, p50=9000.0, ci95={}, not_resolvable=list(needs), needs=needs)
    none = figure(6.0 * users, n=n)
    latencies = dict.fromkeys(("ttft_ms", "tpot_ms", "e2e_ms"), few)
    return step(number, users, requests_per_minute=none, latency=latencies, output_tokens_per_second_ci95=None)


def test_pictures_keep_the_steps_with_few_answers_and_draw_no_error_bar_without_an_interval() -> None:
    enough = [step(2, 16), step(3, 32), step(4, 64)]
    found = replace(summary(*enough), steps=[few_answers(0, 1, 3), few_answers(1, 2, 6), *enough])
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
    assert set(found) == {"throughput-concurrency", "latency-concurrency", "throughput-latency"}
    assert "requests/min" in found["throughput-latency"]


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e12])
def test_odd_figures_can_be_drawn(value: float) -> None:
    odd = figure(value, (value, value), 1)
    steps = [step(i, 2**i, requests_per_minute=odd, output_tokens_per_second=value) for i in range(2)]
    for picture in pictures(summary(*steps)):
        assert png(picture, "m on vllm").startswith(b"\x89PNG")


def test_the_same_run_gives_the_same_pictures() -> None:
    first, second = pictures(summary()), pictures(summary())
    assert [svg(p) for p in first] == [svg(p) for p in second]
    assert [png(p, "m") for p in first] == [png(p, "m") for p in second]


def test_pictures_on_one_page_share_no_identifier() -> None:
    identifiers = [
        {e.get("id") for e in ET.fromstring(svg(p).replace("xlink:href", "href")).iter() if e.get("id")}
        for p in pictures(summary())
    ]
    assert not identifiers[0] & identifiers[1] | identifiers[1] & identifiers[2] | identifiers[0] & identifiers[2]


def test_text_of_a_run_cannot_break_a_picture_or_the_page() -> None:
    good = step(0, 1).goodput
    assert good is not None
    steps = [step(i, 2**i, goodput=replace(good, slo=EVIL)) for i in range(3)]
    evil = summary(*steps, model=EVIL, engine=EVIL)
    page = html(document(evil))
    assert "<script" not in page
    assert page.count("</svg>") == 4
    assert "$\\frac" in svg(pictures(evil)[0]), "drawn as it is, not as mathematics"
    for picture in pictures(evil):
        assert png(picture, "m on vllm").startswith(b"\x89PNG")


def test_the_page_holds_its_pictures_and_refers_to_nothing_outside() -> None:
    page = html(document(summary()))
    assert page.count("<svg") == 4
    for reference in ("http:", "https:", "src=", "@import", "<link", "<style type"):
        assert reference not in page

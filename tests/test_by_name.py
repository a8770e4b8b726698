"""Figures by the names of requests: in the summary, in every report, and as metrics."""

import io
from collections.abc import Callable, Sequence
from itertools import cycle

import msgspec
import pytest
from rich.console import Console
from support.summaries import document
from test_checks_load import closed_loop, step
from test_hostile_text import EVIL, NAMED, assert_harmless
from test_measure import record, shifted
from test_results import manifest

from loadgen.clock import MS
from loadgen.measure.facts import StepFacts
from loadgen.measure.names import LONGEST, MOST, OTHER, FirstNames, label
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results.html import html
from loadgen.results.manifest import Manifest
from loadgen.results.markdown import markdown
from loadgen.results.names_table import names_table
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import NameSummary, NameWindow, Summary, as_json
from loadgen.results.table import Table
from loadgen.results.tables import tables
from loadgen.results.terminal import show_table

FIRST, SECOND = "first question", "follow-up"


def named(records: Sequence[RequestRecord], *names: str | None) -> list[RequestRecord]:
    """The records, with these names in turn."""
    return [msgspec.structs.replace(r, name=name) for r, name in zip(records, cycle(names))]


def one_user(*names: str | None, requests: int = 40) -> list[RequestRecord]:
    return named([record(i, **shifted(record(), 200 * i)) for i in range(requests)], *names)


def throughput(users: int, *steps: StepFacts) -> Manifest:
    return manifest(kind="throughput", users=users, planned_requests=None, steps=list(steps))


def by_name(of: Manifest, records: Sequence[RequestRecord]) -> dict[str, NameSummary]:
    return summarise(of, records).by_name


def window_of(of_name: NameSummary) -> NameWindow:
    assert of_name.window is not None
    return of_name.window


def test_each_name_has_the_counts_latencies_and_tokens_that_a_run_of_it_alone_has() -> None:
    slow = [
        msgspec.structs.replace(r, **shifted(r, 0, end_ns=(r.end_ns or 0) + 20 * MS), output_tokens=8) if i % 2 else r
        for i, r in enumerate(one_user(None))
    ]
    slow[1] = msgspec.structs.replace(slow[1], outcome=Outcome.HTTP_5XX, error="HTTP 503", output_tokens=None)
    found = by_name(manifest(), named(slow, FIRST, SECOND))
    assert list(found) == [FIRST, SECOND]
    for name, of_name in ((FIRST, slow[::2]), (SECOND, slow[1::2])):
        alone = summarise(manifest(), of_name)
        assert found[name] == NameSummary(requests=alone.requests, latency=alone.latency, tokens=alone.tokens)
    assert found[SECOND].requests.by_error == {"http_5xx": 1}
    assert found[SECOND].requests.errors == {"http_5xx": "HTTP 503"}
    assert found[SECOND].latency["e2e_ms"].p50 == 170


def test_a_run_without_names_has_no_figures_by_name() -> None:
    for name in (None, ""):
        summary = summarise(manifest(), one_user(name))
        assert summary.by_name == {}
        assert "by_name" not in as_json(summary)


def test_a_name_in_the_warm_up_is_none_of_the_measured_ones() -> None:
    records = one_user(None)
    warm_up = msgspec.structs.replace(record(99, **shifted(record(), -900)), name=FIRST, phase=Phase.WARMUP)
    assert summarise(manifest(), [warm_up, *records]).by_name == {}


def test_names_beyond_the_most_frequent_are_summed_up_with_requests_without_a_name() -> None:
    many = [f"name {i:02}" for i in range(MOST + 8)]
    records = one_user(*many, requests=len(many)) + one_user("name 39", OTHER, None, requests=6)
    found = by_name(manifest(), [msgspec.structs.replace(r, request_id=f"q{i}") for i, r in enumerate(records)])
    assert len(found) == MOST + 1
    assert next(iter(found)) == "name 39"
    assert list(found)[-1] == OTHER
    assert found["name 39"].requests.completed == 3
    assert found[OTHER].requests.completed == 8 + 1 + 1 + 2
    assert "name 31" not in found
    assert sum(of.requests.completed for of in found.values()) == len(records)


def test_a_run_that_broke_off_says_of_no_name_how_many_were_started() -> None:
    assert by_name(manifest(ended=None), one_user(FIRST))[FIRST].requests.started is None


def test_the_requests_per_minute_of_all_names_add_up_to_those_of_the_run() -> None:
    summary = summarise(throughput(4), named(closed_loop(4, rounds=60), FIRST, SECOND, SECOND))
    windows = [window_of(of_name) for of_name in summary.by_name.values()]
    values = [window.requests_per_minute.value or 0 for window in windows if window.requests_per_minute]
    best, (only,) = summary.throughput, summary.steps or []
    assert best is not None
    assert best.requests_per_minute is not None
    assert sum(values) == pytest.approx(best.requests_per_minute.value)
    assert values[0] == pytest.approx(2 * values[1], rel=0.05)  # the most frequent first
    assert sum(window.share or 0 for window in windows) == pytest.approx(1)
    assert {window.window_seconds for window in windows} == {only.window_seconds}
    assert sum(window.output_tokens_per_second or 0 for window in windows) == pytest.approx(
        best.output_tokens_per_second
    )


def test_a_name_with_few_answers_has_requests_per_minute_without_an_interval() -> None:
    records = named(closed_loop(4, rounds=60), FIRST)
    records[100] = msgspec.structs.replace(records[100], name=SECOND)
    window = window_of(by_name(throughput(4), records)[SECOND])
    assert window.requests_per_minute is not None
    assert window.requests_per_minute.value == pytest.approx(60 / (window.window_seconds or 0), rel=1e-3)
    assert (window.requests_per_minute.ci95, window.requests_per_minute.n) == (None, 1)
    assert (window.no_interval or "").startswith("its window holds 1 answer and ")


def test_a_run_without_a_throughput_has_no_window_by_name() -> None:
    for summary in (
        summarise(manifest(), one_user(FIRST)),
        summarise(throughput(9), named(closed_loop(4), FIRST)),
    ):
        assert summary.by_name[FIRST].window is None
        assert "window" not in as_json(summary)["by_name"][FIRST]


def test_latencies_of_a_sweep_are_those_of_the_step_with_its_throughput() -> None:
    slow = closed_loop(4, rounds=100)
    slower = [
        msgspec.structs.replace(r, end_ns=(r.end_ns or 0) + 400 * MS, step=1)
        for r in closed_loop(8, begin_ms=20_000, pause_ms=400, rounds=60)
    ]
    steps = step(0, 4, (500, 14_000)), step(1, 8, (20_500, 50_000))
    summary = summarise(throughput(8, *steps), named(slow + slower, FIRST, SECOND))
    assert summary.throughput is not None
    assert summary.throughput.at_concurrency == 4
    for of_name in as_json(summary)["by_name"].values():
        assert of_name["latency"]["e2e_ms"]["mean"] == 150
        assert of_name["requests"]["completed"] == 440
        assert "latency" not in of_name["window"]
    table = names_table(summary)
    assert table.title == "Figures by name, at 4 users"
    assert "of all steps" in table.note


def test_latencies_of_a_sweep_without_a_throughput_are_not_mixed() -> None:
    records = named(closed_loop(4) + closed_loop(8, begin_ms=20_000), FIRST, SECOND)
    summary = summarise(throughput(8, step(0, 4, None), step(1, 8, None)), records)
    assert {name: of.latency for name, of in summary.by_name.items()} == {FIRST: {}, SECOND: {}}
    assert names_table(summary).columns == ("name", "completed", "failed", "output tokens, mean")


def test_goodput_by_name_is_the_share_of_its_requests_within_the_limits() -> None:
    of = throughput(4)
    of = msgspec.structs.replace(of, scenario=of.scenario | {"slo": "e2e_ms=160"})
    records = [
        msgspec.structs.replace(r, end_ns=(r.end_ns or 0) + 50 * MS) if r.name == SECOND else r
        for r in named(closed_loop(4, pause_ms=60, rounds=60), FIRST, SECOND)
    ]
    summary = summarise(of, records)
    goodputs = {name: window_of(of_name).goodput for name, of_name in summary.by_name.items()}
    shares = {name: goodput.share.value for name, goodput in goodputs.items() if goodput is not None}
    assert shares == {FIRST: 1.0, SECOND: 0.0}
    assert names_table(summary).columns[-1] == "within limits"


# Reports.


def of_names(summary: Summary) -> list[Table]:
    return [table for table in tables(summary) if table.title.startswith("Figures by name")]


def test_one_name_has_no_table_and_two_have_one_in_each_report() -> None:
    assert of_names(summarise(manifest(), one_user(None))) == []
    assert of_names(summarise(manifest(), one_user(FIRST))) == []
    summary = summarise(manifest(), one_user(FIRST, SECOND))
    (table,) = of_names(summary)
    assert table.columns == (
        *("name", "completed", "failed", "output tokens, mean"),
        *("TTFT p50, ms", "TTFT p99, ms", "TPOT p50, ms", "ITL p50, ms", "E2E p50, ms", "E2E p99, ms"),
    )
    assert table.rows[1] == (SECOND, "20", "0", "5.0", "100.0", "n<368", "10.00", "10.00", "150.0", "n<368")
    for page in (markdown(document(summary)), html(document(summary))):
        assert "Figures by name" in page
        assert SECOND in page


def test_names_of_many_kinds_of_requests_have_a_row_and_the_last_is_explained() -> None:
    (table,) = of_names(summarise(manifest(), one_user(*(f"name {i}" for i in range(40)))))
    assert len(table.rows) == MOST + 1
    assert f"other: names beyond the {MOST} most frequent, and requests without a name." in table.note


def test_a_name_cannot_break_a_report() -> None:
    summary = summarise(manifest(), one_user(EVIL, SECOND))
    assert EVIL in summary.by_name  # the summary has it as the user wrote it
    page = html(document(summary))
    assert_harmless(page)
    assert "<b>" not in page
    assert_harmless(markdown(document(summary)))
    for text in (
        page,
        markdown(document(summary)).replace("\\\\", "\\").replace("\\[", "["),
        drawn(of_names(summary)[0], 160),
    ):
        assert NAMED[: LONGEST // 2] in text
    assert_harmless(drawn(of_names(summary)[0], 80))


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_a_terminal_and_breaks_no_figure(width: int) -> None:
    long = "a question about an order that has not arrived and is not going to"
    records = named(closed_loop(4, rounds=600), FIRST, long, SECOND)
    (table,) = of_names(summarise(throughput(4), records))
    text = drawn(table, width)
    assert max(map(len, text.splitlines()[:-1])) <= width  # without the note, which the terminal wraps
    assert "534.0 [534.0, 534.0]" in text
    assert all(row[i] in text for row in table.rows for i in range(1, len(row)) if i not in table.wide)
    assert FIRST in text


def drawn(table: Table, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    show_table(table, console)
    return console.export_text()


# Names while a run goes on.


def test_the_first_names_are_shown_and_all_later_ones_are_other() -> None:
    names = FirstNames()
    asked = [f"name {i}" for i in range(MOST + 2)]
    assert [names.label_of(name) for name in asked] == [*asked[:MOST], OTHER, OTHER]
    assert [names.label_of(name) for name in ("name 0", OTHER, None, "")] == ["name 0", OTHER, OTHER, OTHER]


def test_other_takes_no_place_of_a_name() -> None:
    names = FirstNames()
    names.label_of(OTHER)
    assert [names.label_of(f"{i}") for i in range(MOST)] == [f"{i}" for i in range(MOST)]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a", lambda text: text == "a"),
        ("a\nb\x1b[0m", lambda text: text == "a\\nb\\x1b[0m"),
        ("x" * 1000, lambda text: len(text) == LONGEST and text.endswith("…")),
        ("\ud800", lambda text: text == "\\ud800"),
    ],
)
def test_a_label_is_short_and_prints(name: str, shown: Callable[[str], bool]) -> None:
    assert shown(label(name))

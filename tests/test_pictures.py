"""Pictures of runs with records: which there are, what they show, and that they stay small."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec.structs import replace
from support.drawn_runs import SLO, manifest, powered_run, rate_run, records, run, speed_run, sweep_run

from loadgen.clock import MS
from loadgen.measure.facts import EngineSample
from loadgen.record import Outcome
from loadgen.results.document import document
from loadgen.results.html import html
from loadgen.results.pictures.catalogue import pictures
from loadgen.results.pictures.drawing import MOST_POINTS, Picture, png, svg
from loadgen.results.report import write_reports
from loadgen.results.run_data import Run

OF_REQUESTS = ["time-line", "latency-distribution", "requests", "ttft-input"]


def named(of: Run, name: str) -> Picture:
    return next(picture for picture in pictures(of) if picture.name == name)


def axes(of: Run, name: str) -> Sequence[Axes]:
    drawing = Figure()
    named(of, name).draw(drawing)
    return drawing.axes


def points(of: Axes, label: str) -> list[tuple[float, float]]:
    line = next(line for line in of.get_lines() if str(line.get_label()).startswith(label))
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (speed_run, ["answers-in-order", *OF_REQUESTS, "latency-names", "engine-clock"]),
        (run, [*OF_REQUESTS, "latency-names", "engine-clock"]),
        (rate_run, [*OF_REQUESTS, "latency-names", "engine-clock"]),
        (
            sweep_run,
            [
                *("throughput-concurrency", "latency-concurrency", "throughput-latency", "throughput-interactivity"),
                *OF_REQUESTS,
                *("latency-names", "engine-clock"),
            ],
        ),
    ],
)
def test_each_kind_of_run_has_its_pictures(made: Any, names: list[str]) -> None:
    assert [picture.name for picture in pictures(made())] == names


def test_what_was_not_measured_has_no_picture() -> None:
    bare = records(name=None, input_tokens=None, server_prefill_ms=None, server_tpot_ms=None)
    assert [p.name for p in pictures(Run(manifest(), bare))] == ["time-line", "latency-distribution", "requests"]
    assert pictures(Run(manifest(), [])) == []


def test_a_slow_start_of_one_user_is_marked_with_both_speeds() -> None:
    picture = named(speed_run(count=60, slow=20), "answers-in-order")
    assert "Slow start: the first 20 answers averaged 25.00 tokens/s, the remaining 39 50.00." in picture.note
    (drawn,) = axes(speed_run(count=60, slow=20), "answers-in-order")
    assert points(drawn, "changes after answer 20")[0][0] == 20.5
    assert "No significant change" in named(speed_run(slow=0), "answers-in-order").note


def test_the_time_line_shows_load_throughput_latency_and_failures() -> None:
    labels = [panel.get_ylabel().replace("\n", " ") for panel in axes(run(), "time-line")]
    assert labels == ["requests in flight", "requests/min", "output tokens/s", "TTFT, ms", "TPOT, ms", "failed/min"]
    whole = Run(manifest(), [r for r in records() if r.outcome is Outcome.OK])
    assert "failed/min" not in [panel.get_ylabel() for panel in axes(whole, "time-line")]


def test_the_time_line_counts_what_the_summary_counts() -> None:
    throughput = axes(run(), "time-line")[1].get_lines()[0].get_ydata()
    answers = 390  # of 400, every fortieth failed
    last_s = max(r.end_ns or 0 for r in records()) / 1e9
    assert float(sum(throughput)) / len(throughput) == pytest.approx(60 * answers / last_s, rel=0.02)  # type: ignore[arg-type]


def test_the_time_line_marks_where_steps_begin() -> None:
    first = axes(sweep_run(), "time-line")[0]
    assert [text.get_text() for text in first.texts] == ["1", "2", "4", "users"]


def test_the_power_of_gpus_is_part_of_the_time_line() -> None:
    power = axes(powered_run(), "time-line")[-1]
    assert power.get_ylabel() == "GPU power, W"
    assert float(power.get_lines()[0].get_ydata()[0]) == pytest.approx(300, abs=1)  # type: ignore[index]


def test_what_the_engine_reports_of_itself_is_part_of_the_time_line() -> None:
    samples = [EngineSample(at * 5000 * MS, 8.0, 2.0, 0.25) for at in range(13)]
    panels = {panel.get_ylabel(): panel for panel in axes(run(engine_load=samples), "time-line")}
    assert [str(line.get_label()) for line in panels["engine:\nrequests"].get_lines()][::2] == ["running", "waiting"]
    assert float(panels["KV cache\nin use, %"].get_lines()[0].get_ydata()[0]) == 25.0  # type: ignore[index]
    queue_only = run(engine_load=[EngineSample(at * 5000 * MS, 8.0, 2.0) for at in range(13)])
    assert "KV cache\nin use, %" not in [panel.get_ylabel() for panel in axes(queue_only, "time-line")]


def test_the_distribution_has_a_line_for_each_step_and_the_limits() -> None:
    panels = axes(sweep_run(), "latency-distribution")
    assert [panel.get_xlabel() for panel in panels] == ["TTFT, ms", "TPOT, ms", "E2E, ms"]
    assert [str(line.get_label()) for line in panels[0].get_lines()][:3] == ["1 user", "2 users", "4 users"]
    assert panels[0].get_lines()[-1].get_xdata()[0] == 250, SLO  # type: ignore[index]
    assert len(panels[1].get_lines()) == 3, "no limit of TPOT was given"


def test_an_open_loop_has_a_line_from_the_schedule_and_one_from_the_send() -> None:
    ttft = axes(rate_run(), "latency-distribution")[0]
    schedule, send = points(ttft, "from the schedule"), points(ttft, "from the send")
    assert schedule[0][0] - send[0][0] == pytest.approx(2.0)


def test_requests_are_coloured_by_outcome_and_each_outcome_is_named_once() -> None:
    (drawn,) = axes(run(), "requests")
    labels = [str(line.get_label()) for line in drawn.get_lines()]
    assert labels == ["ok (390)", "http 5xx (10)"]
    assert len({line.get_color() for line in drawn.get_lines()}) == 2


def test_of_many_requests_some_are_drawn_and_the_note_says_how_many() -> None:
    many = [replace(r, request_id=f"{i}-{r.request_id}") for i in range(10) for r in records()]
    whole = Run(manifest(), many)
    assert f"{MOST_POINTS:,} of 3,900 complete answers are drawn" in named(whole, "requests").note
    (drawn,) = axes(whole, "requests")
    assert [str(line.get_label()) for line in drawn.get_lines()] == ["ok (3,900)", "http 5xx (100)"]
    assert [len(line.get_xdata()) for line in drawn.get_lines()] == [pytest.approx(MOST_POINTS + 50, abs=50), 100], (
        "all failures"
    )  # type: ignore[arg-type]
    assert len(html(document(whole))) < 2_000_000


def test_prefill_by_the_engine_stands_next_to_ttft() -> None:
    prefill, decode = axes(run(), "engine-clock")
    ours, theirs = points(prefill, "TTFT"), points(prefill, "prefill, by the engine")
    assert ours[0][0] - theirs[0][0] == pytest.approx(20)
    assert [str(line.get_label()) for line in decode.get_lines()] == ["decode of a token, by the engine", "TPOT"]


@pytest.mark.parametrize("made", [speed_run, run, sweep_run, rate_run, powered_run])
def test_pictures_of_one_page_share_no_identifier_and_are_well_formed(made: Any) -> None:
    seen: set[str] = set()
    for picture in pictures(made()):
        drawing = ET.fromstring(svg(picture).replace("xlink:href", "href"))
        identifiers = {str(e.get("id")) for e in drawing.iter() if e.get("id")}
        assert not seen & identifiers
        seen |= identifiers
        assert png(picture, "m on vllm").startswith(b"\x89PNG")


def test_every_picture_has_a_file_next_to_the_report(tmp_path: Path) -> None:
    write_reports(tmp_path, sweep_run())
    text = (tmp_path / "report.md").read_text()
    files = {path.name for path in tmp_path.glob("*.png")}
    assert files == {f"{picture.name}.png" for picture in pictures(sweep_run())}
    assert all(f"]({name})" in text for name in files)


def test_names_that_are_markup_are_drawn_as_they_are() -> None:
    evil = "$x$ <script>alert(1)</script>"
    of = Run(manifest(), [replace(r, name=evil if r.name == "a question" else r.name) for r in records()])
    drawing = svg(named(of, "latency-names"))
    assert "<script" not in drawing
    assert "$x$ &lt;script" in drawing


def test_a_single_moment_can_be_drawn() -> None:
    at_once = [replace(r, sent_ns=0, end_ns=MS, first_token_ns=MS, last_token_ns=MS) for r in records(20)]
    for picture in pictures(Run(manifest(), at_once)):
        assert svg(picture).startswith("<svg")

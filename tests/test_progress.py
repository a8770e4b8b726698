"""The progress line: one line at any width, of whole parts, and what matters is left out last."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CHAT, clean_environment
from rich.cells import cell_len
from rich.console import Console
from serving import answer, serving
from support.locust_process import LOCUST
from support.terminal import on_terminal

from loadgen.live.live import LiveStats
from loadgen.live.progress import progress_line
from loadgen.measure.watch import longest_step_s
from loadgen.record import Outcome

WIDTHS = (40, 60, 80, 120, 200)


def of_requests() -> LiveStats:
    """45 of 100 requests, three of which failed, after half a minute."""
    live = LiveStats(planned=100, warmup=5, run_time_s=None)
    live.state = "measuring"
    live.outcomes.update({Outcome.OK: 42, Outcome.HTTP_5XX: 3})
    live.began -= 30
    return live


def of_steps(number: int = 4, known: int | None = 5, users: int = 256) -> LiveStats:
    live = LiveStats(planned=None, warmup=5, run_time_s=None)
    live.state = "measuring"
    live.begin_step(number, known, users, 60.0)
    return live


def drawn(live: LiveStats, width: int) -> str:
    """The line on a terminal of so many columns."""
    console = Console(width=width, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(progress_line(live, width))
    (line, end) = captured.get().split("\n")
    assert end == ""
    assert cell_len(line) <= width
    return line.rstrip()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (of_requests, ["measuring", "45 of 100", "37 s left"]),
        (of_steps, ["step 5 of 5: 256 users", "<4 min left"]),
        (lambda: of_steps(3, None), ["step 4: 256 users"]),
        (lambda: LiveStats(planned=100, warmup=5, run_time_s=90.0), ["warming up", "0 of 5", "90 s left"]),
    ],
)
def test_state_requests_done_and_time_left_are_kept_at_any_width(
    made: Callable[[], LiveStats], kept: list[str], width: int
) -> None:
    line = drawn(made(), width)
    assert [part for part in kept if part not in line] == []


def test_figures_are_left_out_whole_from_the_right() -> None:
    def parts(width: int) -> list[str]:
        return re.split(r" {2,}", re.sub("\N{BOX DRAWINGS HEAVY HORIZONTAL}.*?  ", " ", drawn(of_requests(), width)))

    all_parts = parts(200)
    assert all_parts[-3:] == ["3 failed", "0 in flight", "0:00:30"]
    for width in range(32, 200):
        assert parts(width) == all_parts[: len(parts(width))]


def test_the_time_left_of_a_sweep_is_the_longest_that_its_steps_may_take() -> None:
    left = of_steps(number=3, known=5).eta_s
    assert left == pytest.approx(2 * longest_step_s(60.0), abs=1)
    live = LiveStats(planned=None, warmup=5, run_time_s=100.0)
    live.begin_step(3, 5, 256, 60.0)
    assert live.eta_s == pytest.approx(100.0, abs=1)  # --run-time ends it before


def test_a_line_that_is_narrower_than_its_state_is_cut_and_stays_one_line() -> None:
    assert drawn(of_steps(), 12) == "step 5 of 5:"


@pytest.mark.parametrize("width", [40, 80])
def test_on_a_terminal_the_line_of_a_run_never_wraps(width: int, tmp_path: Path) -> None:
    arguments = ("--headless", "--sample", "6", "--warmup", "2", "--users", "2", "--results", "results")
    with serving(answer(4, pause=0.2)) as server:
        shown = on_terminal(
            [*LOCUST, "-f", str(CHAT), "--host", server.url, *arguments],
            columns=width,
            cwd=tmp_path,
            environment=clean_environment(),
        )
    drawn_lines = [line for line in shown.lines if re.match(r"(warming up|measuring)  ", line)]
    assert any("of 6" in line for line in drawn_lines), shown.text
    assert max(map(cell_len, drawn_lines)) <= width
    begun = shown.lines[next(i for i, line in enumerate(shown.lines) if "Starting Locust" in line) + 1 :]
    too_wide = [line.strip() for line in begun if cell_len(line) > width]
    assert all(line.startswith(("/", "Results: /")) and " " not in line[9:] for line in too_wide), too_wide

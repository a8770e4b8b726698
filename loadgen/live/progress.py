"""The progress line of a run: on a terminal only, drawn between requests and at most twice a second.

It is always one line. Where the terminal is narrow, whole parts of it are left out: figures first, from the right, and
last of all what the run is doing, how much of it is done, and the time left.
"""

import logging
import sys
import time
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadgen.live.live import LAST, LiveStats
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TPOT, TTFT
from loadgen.printable import counted
from loadgen.terminal_text import columns, wrapped

_REDRAW_S = 0.5
_BAR, _GAP = 12, 2
"""Columns of the bar, and between two parts of the line."""

_IN_MINUTES_S = 120.0
"""Longer durations are shown in minutes."""


class Progress:
    """A line that follows a run; silent where there is no terminal. Each step that ends leaves a line above it."""

    def __init__(self, live: LiveStats) -> None:
        self._console = Console(stderr=True, soft_wrap=True)  # else it breaks paths in lines of the log
        self._live = live
        self._display: Live | None = None
        self._drawn_at = 0.0
        self._steps_shown = 0

    def start(self) -> None:
        """Show the line, if there is a terminal to show it on."""
        if not self._console.is_terminal:
            return
        self._display = Live(
            self._line(),
            console=self._console,
            auto_refresh=False,  # no thread: nothing draws while a request is being read
            transient=True,
        )
        self._display.start(refresh=True)
        self._redirect_logs()

    def draw(self) -> None:
        """Draw what the run is doing, and a line for each step that has ended."""
        for step in self._live.steps[self._steps_shown :]:
            self._print_step(step)
        self._steps_shown = len(self._live.steps)
        if self._display is None or time.monotonic() - self._drawn_at < _REDRAW_S:
            return
        self._drawn_at = time.monotonic()
        self._display.update(self._line(), refresh=True)

    def stop(self) -> None:
        """Remove the line."""
        self.draw()
        if self._display is not None:
            self._display.stop()
            self._display = None
            self._redirect_logs()

    def _print_step(self, step: dict[str, object]) -> None:
        text = _step_result(step)
        if self._console.is_terminal:
            text = wrapped(text, self._console.width, indent=4)
        self._console.print(text, markup=False, highlight=False)

    def _redirect_logs(self) -> None:
        """Let lines of the log go where standard error goes now: above the progress line while there is one."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setStream(sys.stderr)

    def _line(self) -> RenderableType:
        return progress_line(self._live, self._console.width)


def progress_line(live: LiveStats, width: int) -> RenderableType:
    """Return the parts of the progress line for which a terminal of that many columns has room."""
    parts = _fitting(_parts(live), width)
    line = Table.grid(padding=(0, _GAP, 0, 0))
    for part in parts:
        line.add_column(width=min(part.width, width), no_wrap=True, overflow="crop")
    line.add_row(*(part.shown for part in parts))
    return line


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the line."""

    shown: Text | ProgressBar
    rank: int
    """The higher it is, the sooner the part is left out; parts of one rank are left out from the right."""

    @property
    def width(self) -> int:
        return columns(self.shown.plain) if isinstance(self.shown, Text) else _BAR


_STATE, _DONE, _LEFT, _BAR_RANK, _FIGURE = range(5)


def _parts(live: LiveStats) -> list[_Part]:
    """Return what the line has to say, in the order in which it stands there."""
    total = None if live.progress is None else 1.0
    bar = ProgressBar(total=total, completed=live.progress or 0.0, width=_BAR, pulse=live.progress is None)
    texts = [(_done(live), _DONE, ""), (_time_left(live), _LEFT, "")]
    if live.failed:
        texts.append((f"{live.failed:,} failed", _FIGURE, "red"))
    texts += [(text, _FIGURE, "") for text in (*_figures(live), _elapsed(live))]
    return [
        _Part(Text(_state(live)), _STATE),
        _Part(bar, _BAR_RANK),
        *(_Part(Text(text, style), rank) for text, rank, style in texts if text),
    ]


def _fitting(parts: list[_Part], width: int) -> list[_Part]:
    """Return the parts for which there is room, in their order; always the first one."""
    taken: list[_Part] = []
    for part in sorted(parts, key=lambda part: part.rank):
        wanted = [*taken, part]
        if taken and sum(p.width for p in wanted) + _GAP * (len(wanted) - 1) > width:
            break
        taken = wanted
    return [part for part in parts if part in taken]


def _state(live: LiveStats) -> str:
    if live.step is None or live.state != "measuring":
        return live.state
    of = "" if live.known_steps is None else f" of {live.known_steps}"
    return f"step {live.step + 1}{of}: {counted(live.concurrency or 0, 'user')}"


def _done(live: LiveStats) -> str:
    """Return how many requests have ended, of how many; of a sweep nothing, as its steps take any number."""
    if live.state == "warming up":
        return f"{live.warmed:,} of {live.warmup:,}"
    if live.step is not None:
        return ""
    return f"{live.done:,}" if live.planned is None else f"{live.done:,} of {live.planned:,}"


def _time_left(live: LiveStats) -> str:
    """Return the time left, in minutes where it is long; of a sweep it is a limit."""
    if live.eta_s is None:
        return ""
    at_most = "<" if live.step is not None else ""
    if live.eta_s < _IN_MINUTES_S:
        return f"{at_most}{live.eta_s:.0f} s left"
    return f"{at_most}{-(-live.eta_s // 60):,.0f} min left"


def _elapsed(live: LiveStats) -> str:
    minutes, seconds = divmod(int(live.elapsed_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _figures(live: LiveStats) -> list[str]:
    """Return the figures of the last seconds, the most telling first."""
    if live.state == "warming up":
        return []
    latency, now = live.latency(), live.now()
    rates = (OUTPUT_TOKENS_PER_SECOND,) if live.step is None else (REQUESTS_PER_MINUTE, OUTPUT_TOKENS_PER_SECOND)
    recent = [f"{now[metric.key]:,.0f} {metric.label}" for metric in rates if now[metric.key]]
    recent += [
        f"{metric.label} p50 {latency[metric.key]['p50']:,.1f} {metric.unit}"
        for metric in (TTFT, TPOT)
        if "p50" in latency[metric.key]
    ]
    if recent:
        recent[0] = f"{LAST}: {recent[0]}"
    return [*recent, f"{live.in_flight:,} in flight"]


def _step_result(step: dict[str, object]) -> str:
    """Return what was found in a step, on one line."""
    text = f"step {int(str(step['step'])) + 1}: {counted(int(str(step['concurrency'])), 'user')}: "
    rate, speed = step["requests_per_minute"], step["output_tokens_per_second"]
    failures = f", {step['failed']} failed" if step["failed"] else ""
    if rate is None:
        return f"{text}no throughput{failures}" if failures else f"{text}too short for a throughput"
    assert isinstance(rate, dict)
    text += f"{rate['value']:,.1f} requests/min"
    if rate["ci95"] is not None:
        text += f" [{rate['ci95'][0]:,.1f}, {rate['ci95'][1]:,.1f}]"
    text += ("" if speed is None else f", {speed:,.0f} output tokens/s") + failures
    return text + " (not steady)" if step["steady"] is False else text

"""The progress line of a run: on a terminal only, drawn between requests and never more than twice a second."""

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from loadgen.live.live import LAST, LiveStats
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TPOT, TTFT
from loadgen.printable import counted

_REDRAW_S = 0.5


class Progress:
    """A line that follows a run; silent where there is no terminal. Each step that is over leaves a line above it."""

    def __init__(self, live: LiveStats) -> None:
        self._console = Console(stderr=True)
        self._live = live
        self._bar: RichProgress | None = None
        self._task = TaskID(0)
        self._drawn_at = 0.0
        self._told = 0

    def start(self) -> None:
        """Show the line, if there is a terminal to show it on."""
        if not self._console.is_terminal:
            return
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            auto_refresh=False,  # no thread: nothing draws while a request is being read
            transient=True,
        )
        self._task = self._bar.add_task("warming up", total=1.0, count="", figures="")
        self._bar.start()
        self._bar.refresh()
        self._redirect_logs()

    def draw(self) -> None:
        """Draw what is going on, and say what became of each step."""
        while self._told < len(self._live.steps):
            self._console.print(_told(self._live.steps[self._told]), markup=False, highlight=False, soft_wrap=True)
            self._told += 1
        bar, live = self._bar, self._live
        if bar is None or time.monotonic() - self._drawn_at < _REDRAW_S:
            return
        self._drawn_at = time.monotonic()
        bar.update(
            self._task,
            description=self._description(),
            total=None if live.progress is None else 1.0,
            completed=live.progress or 0.0,
            count=self._count(),
            figures=self._figures(),
        )
        bar.refresh()

    def stop(self) -> None:
        """Take the line away."""
        self.draw()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._redirect_logs()

    def _redirect_logs(self) -> None:
        """Let lines of the log go where standard error goes now: above the progress line while there is one."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setStream(sys.stderr)

    def _description(self) -> str:
        live = self._live
        if live.step is None or live.state != "measuring":
            return live.state
        of = "" if live.known_steps is None else f" of {live.known_steps}"
        return f"step {live.step + 1}{of}: {counted(live.concurrency or 0, 'user')}"

    def _count(self) -> str:
        live = self._live
        if live.state == "warming up":
            return f"{live.warmed}/{live.warmup}"
        if live.step is not None:
            return ""
        return str(live.done) if live.planned is None else f"{live.done}/{live.planned}"

    def _figures(self) -> str:
        live = self._live
        if live.state == "warming up":
            return ""
        parts = [f"{live.in_flight} in flight"] if live.step is None else []
        if recent := self._recent():
            parts += [f"{LAST}: {recent[0]}", *recent[1:]]
        if live.failed:
            parts.append(f"[red]{live.failed} failed[/]")
        if live.eta_s is not None:
            parts.append(f"at most {live.eta_s:,.0f} s left" if live.step is not None else f"{live.eta_s:,.0f} s left")
        return "  ".join(parts)

    def _recent(self) -> list[str]:
        """Return the figures of the last seconds."""
        latency, now = self._live.latency(), self._live.now()
        rates = (
            (OUTPUT_TOKENS_PER_SECOND,) if self._live.step is None else (REQUESTS_PER_MINUTE, OUTPUT_TOKENS_PER_SECOND)
        )
        return [
            *(f"{now[metric.key]:,.0f} {metric.label}" for metric in rates if now[metric.key]),
            *(
                f"{metric.label} p50 {latency[metric.key]['p50']:,.1f} {metric.unit}"
                for metric in (TTFT, TPOT)
                if "p50" in latency[metric.key]
            ),
        ]


def _told(step: dict[str, object]) -> str:
    """Say in a line what was found in a step."""
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

"""The progress line of a run: on a terminal only, drawn between requests and never more than twice a second."""

import logging
import statistics
import sys
import time
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from loadgen.measure.metrics import tokens_per_second, ttft_ms
from loadgen.record import Outcome, Phase, RequestRecord

_REDRAW_S = 0.5
_RECENT = 100
"""Requests that the live figures look back on."""


class Progress:
    """A line that follows the records; silent where there is no terminal."""

    def __init__(self, planned: int | None, run_time: float | None, *, warmup: int) -> None:
        self._console = Console(stderr=True)
        self._planned = planned
        self._warmup = warmup
        self._warmed = 0
        self._run_time = run_time
        self._bar: RichProgress | None = None
        self._task = TaskID(0)
        self._done = self._failed = 0
        self._drawn_at = 0.0
        self._began = 0.0
        self._rates: deque[float] = deque(maxlen=_RECENT)
        self._ttfts: deque[float] = deque(maxlen=_RECENT)

    def start(self) -> None:
        """Show the line, if there is a terminal to show it on."""
        self._began = time.monotonic()
        if not self._console.is_terminal:
            return
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            auto_refresh=False,  # no thread: nothing draws while a request is being read
            transient=True,
        )
        total = self._planned if self._planned is not None else self._run_time
        self._task = self._bar.add_task("warming up", total=total, count="", figures="")
        self._bar.start()
        self._bar.refresh()
        self._redirect_logs()

    def add(self, record: RequestRecord) -> None:
        """Follow one more record."""
        self._warmed += record.phase is Phase.WARMUP
        if record.phase is Phase.MEASURE:
            self._done += 1
            self._failed += record.outcome is not Outcome.OK
            if (rate := tokens_per_second(record)) is not None:
                self._rates.append(rate)
            if (ttft := ttft_ms(record)) is not None:
                self._ttfts.append(ttft)
        if self._bar is not None and time.monotonic() - self._drawn_at >= _REDRAW_S:
            self._draw(self._bar)

    def stop(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
            self._redirect_logs()

    def _redirect_logs(self) -> None:
        """Let lines of the log go where standard error goes now: above the progress line while there is one."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.setStream(sys.stderr)

    def _draw(self, bar: RichProgress) -> None:
        self._drawn_at = time.monotonic()
        if self._done:
            by_count = self._planned is not None
            bar.update(
                self._task,
                description="measuring",
                completed=self._done if by_count else self._drawn_at - self._began,
                count=f"{self._done}/{self._planned}" if by_count else str(self._done),
                figures=self._figures(),
            )
        else:
            bar.update(self._task, count=f"{self._warmed}/{self._warmup}")
        bar.refresh()

    def _figures(self) -> str:
        parts = []
        if self._rates:
            parts.append(f"{statistics.fmean(self._rates):.1f} tokens/s a user")
        if self._ttfts:
            parts.append(f"TTFT p50 {statistics.median(self._ttfts):.1f} ms")
        if self._failed:
            parts.append(f"[red]{self._failed} failed[/]")
        return "  ".join(parts)

"""Looks at one step of the load while it goes on, and says when enough is known: no clock of its own, no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.intervals import mean_of_series, narrow_enough
from loadgen.measure.limits import ENOUGH_REQUESTS, ROUND_TRIPS
from loadgen.measure.load import Series, Spans, Window, edges_of
from loadgen.measure.statistics import Estimate
from loadgen.measure.steady import steady
from loadgen.record import RequestRecord

BINS = 600
"""A step's longest time is looked at in so many bins: fine enough for batches within a window of a few seconds."""

LEAST_S = 5.0
"""A window is at least so long, or half a step: bursts and pauses of an engine may be seconds apart."""

PATIENCE_S = 30.0
"""Beyond its time a step waits so long for the requests sent in it; then the window ends where all have ended."""


@dataclass(frozen=True, slots=True)
class Found:
    """A window that may be measured in."""

    window: Window
    unsteady: str | None
    """Why it is not taken for a steady state, if so."""
    ended_by: Literal["precision", "step-time"]
    requests_per_minute: Estimate


class StepWatch:
    """Follows one step. Times are on one clock, ns."""

    def __init__(self, began: int, full: int, step_time_s: float, precision: float) -> None:
        self._full = full
        """When all users had been told to start: before that nothing counts."""
        self._due = began + int(step_time_s * SECOND)
        self._bin = int(step_time_s * SECOND / BINS)
        self._least_s = min(LEAST_S, step_time_s / 2)
        self._precision = precision
        self._records: list[RequestRecord] = []

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Take requests that have ended."""
        self._records += [r for r in records if r.end_ns is not None and r.end_ns > self._full]

    def sent_in(self, window: Window) -> list[RequestRecord]:
        """Return the requests sent in a window."""
        return [r for r in self._records if r.sent_ns is not None and window.start <= r.sent_ns < window.end]

    def round_trip_ms(self) -> float | None:
        """Return the median time of a request, ms."""
        times = [(r.end_ns - r.sent_ns) / 1e6 for r in self._records if r.end_ns is not None and r.sent_ns is not None]
        return float(np.median(times)) if times else None

    def look(self, now: int, settled: int) -> Found | None:
        """Return the window, once enough is known or the time is up; None to go on.

        ``settled``: all requests sent before it have ended, and have been added. No window reaches beyond it, so the
        load was constant until each of its requests had ended.
        """
        if now < self._due:
            judged = self._judged(settled, "precision")
            return judged[0] if judged is not None and self._is_enough(*judged) else None
        if settled < self._due and now < self._due + PATIENCE_S * SECOND:
            return None
        judged = self._judged(min(settled, self._due), "step-time")
        return None if judged is None else judged[0]

    def _is_enough(self, found: Found, per_minute: Series) -> bool:
        """Whether a window may be the last; ``per_minute``: requests/min in each of its bins."""
        answers = per_minute.sum() * self._bin / (60 * SECOND)
        return (
            found.unsteady is None
            and found.requests_per_minute.ci95 is not None
            and found.window.seconds >= self._least_s
            and answers >= ENOUGH_REQUESTS
            and narrow_enough(per_minute, self._precision)
        )

    def _judged(self, end: int, ended_by: Literal["precision", "step-time"]) -> tuple[Found, Series] | None:
        """Return the window up to ``end``, without what is not steady of its start, and requests/min in its bins.

        Where no cut helps, the second half stands, and is said not to be steady.
        """
        edges = edges_of(Window(self._full, end), self._bin)
        if len(edges) < 3:  # noqa: PLR2004 one bin says nothing
            return None
        spans = Spans.of(self._records)
        series = {
            "requests/min": spans.answers_served(edges) * 60 * SECOND / self._bin,
            "output tokens/s": spans.tokens_served(edges) * SECOND / self._bin,
            "requests in flight": spans.in_flight(edges),
        }
        state = steady({name: values for name, values in series.items() if not np.isnan(values).any()})
        cut = len(series["requests/min"]) // 2 if state.cut is None else state.cut
        kept = series["requests/min"][cut:]
        estimate = mean_of_series(kept)
        if estimate is None:
            return None
        window = Window(int(edges[cut]), int(edges[-1]))
        if not self._is_long(window):
            estimate = replace(estimate, ci95=None)
        return Found(window, state.unsteady, ended_by, estimate), kept

    def _is_long(self, window: Window) -> bool:
        """Whether a window is long enough for an interval of its throughput."""
        round_trip = self.round_trip_ms()
        return round_trip is not None and window.seconds >= ROUND_TRIPS * round_trip / 1000

"""Watches one step of the load while it runs, and decides when it has shown enough. It has no clock and does no I/O.

A step ends as soon as its throughput is known to the precision asked for, else at its time. It may run up to
``MOST_STEP_TIMES`` times as long: while its window is too short for a throughput or not steady, and where a rough
interval cannot tell whether throughput still grew, but a longer window can.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.intervals import may_be_narrow, narrow_enough
from loadgen.measure.knee import grew
from loadgen.measure.limits import ENOUGH_REQUESTS, FAILED_SHARE_LIMIT, ROUND_TRIPS, SHORTEST_WINDOW
from loadgen.measure.load import Series, Window, belonging_to
from loadgen.measure.statistics import Estimate
from loadgen.measure.steady import mser5, steady
from loadgen.measure.throughput import Bins, Throughput, throughput
from loadgen.measure.timeline import Timeline
from loadgen.record import Outcome, RequestRecord

BINS = 600
"""A step's time is divided into this many bins: fine enough for batches within a window of a few seconds."""

MOST_VIEWED = 300
"""A look puts bins together until no more are left: what it costs does not depend on how long the step lasts, and each
batch of a mean still has fifteen."""

LEAST_S = 5.0
"""A window is at least so long, or half a step: bursts and pauses of an engine may be seconds apart."""

PATIENCE_S = 30.0
"""Beyond its time a step waits so long for the requests sent in it; then the window ends where all have ended."""

LOOK_AGAIN = 0.03
"""Beyond its time a step is judged anew once it has become longer by this share."""

_AMPLY = 1.01
"""A window that is to hold three round trips is longer by this factor than they took so far."""

MOST_STEP_TIMES = 3
"""Longest duration of a step, in multiples of --step-time."""


def longest_step_s(step_time_s: float) -> float:
    """Return after how many seconds a step ends at the latest, the time for its last requests to end included."""
    return MOST_STEP_TIMES * step_time_s + PATIENCE_S


@dataclass(frozen=True, slots=True)
class StepWindow:
    """The window of a step that has ended."""

    window: Window
    unsteady: str | None
    """Why it is not taken for a steady state, if so."""
    undecided: str | None
    """Why nobody can tell whether it is, if so."""
    ended_by: Literal["precision", "step-time"]
    throughput: Throughput

    @property
    def requests_per_minute(self) -> Estimate | None:
        """Its throughput, None where the window is too short for one."""
        return self.throughput.requests_per_minute

    @property
    def too_short(self) -> str | None:
        """Why there is no throughput, if so."""
        return self.throughput.no_interval if self.requests_per_minute is None else None

    @property
    def is_known(self) -> bool:
        """Whether its throughput has an interval that is not rough."""
        estimate = self.requests_per_minute
        return estimate is not None and estimate.ci95 is not None and not self.throughput.is_rough

    @property
    def counts(self) -> bool:
        """Whether its throughput may decide how a sweep goes on."""
        return self.unsteady is None and self.requests_per_minute is not None


class StepWatch:
    """Follows one step. Times are on one clock, ns."""

    def __init__(
        self, began: int, full: int, step_time_s: float, precision: float, best: Estimate | None = None
    ) -> None:
        """Follow a step that began at a time. ``best``: throughput of the best step before it.

        ``full``: when all users had been told to start; before that nothing counts.
        """
        self._full = full
        self._due = began + int(step_time_s * SECOND)
        self._last = began + int(MOST_STEP_TIMES * step_time_s * SECOND)
        self._bin = int(step_time_s * SECOND / BINS)
        self._least_s = min(LEAST_S, step_time_s / 2)
        self._precision = precision
        self._best = best
        self._timeline = Timeline(full, self._bin, MOST_STEP_TIMES * BINS)
        self._records: list[RequestRecord] = []
        self._failed = 0
        self._is_extended = False
        """Whether its time was not enough."""
        self._look_again = 0

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Take requests that have ended."""
        new = [r for r in records if r.end_ns is not None and r.end_ns > self._full]
        self._records += new
        self._failed += sum(r.outcome is not Outcome.OK for r in new)
        self._timeline.add(new)

    def belonging_to(self, window: Window) -> list[RequestRecord]:
        """Return the requests that were sent in a window, or could not be."""
        return list(belonging_to(window, self._records))

    def judged(self, end: int) -> StepWindow:
        """Return the window of a step that was ended at a time by somebody else."""
        return self._judged(self._view(end), "step-time")

    def look(self, now: int, settled: int) -> StepWindow | None:
        """Return the window, once enough is known or the time is up; None to go on.

        ``settled``: all requests sent before it have ended, and have been added. No window reaches beyond it, so the
        load was constant until each of its requests had ended. What a look costs does not grow with the records.
        """
        if now < self._due:
            return self._if_precise(settled)
        if settled < self._due and now < self._due + PATIENCE_S * SECOND:
            return None
        end = min(settled, self._last if self._is_extended else self._due)
        if end < self._full + 2 * self._bin:  # one bin says nothing
            return None
        is_over = settled >= self._last or now >= self._last + PATIENCE_S * SECOND
        if end < self._look_again and not is_over:
            return None
        self._is_extended, self._look_again = True, end + int(LOOK_AGAIN * (end - self._full))
        view = self._view(end)
        found = self._judged(view, "step-time")
        if is_over:
            return self._prolonged(found, view)
        return found if self._is_complete(found) or self._is_failing else None

    @property
    def _is_failing(self) -> bool:
        """Whether more requests failed than a valid run may have: more time would not help."""
        return self._failed > FAILED_SHARE_LIMIT * len(self._records)

    def _if_precise(self, settled: int) -> StepWindow | None:
        """Return the window if its throughput is already known to the precision asked for.

        The cheap questions come first: most looks end with one of them.
        """
        if settled - self._full < self._least_s * SECOND:
            return None
        view = self._view(settled)
        answers = view.bins.since(min(view.cut, len(view.bins.answers) // 2)).answers
        if answers.sum() < ENOUGH_REQUESTS or not may_be_narrow(answers, self._precision):
            return None
        found = self._judged(view, "precision")
        return found if self._is_precise(found) and narrow_enough(answers, self._precision) else None

    def _is_precise(self, found: StepWindow) -> bool:
        """Whether a window may be the last before the step's time."""
        steady_state = found.unsteady is None and found.undecided is None
        return steady_state and found.is_known and found.window.seconds >= self._least_s

    def _is_complete(self, found: StepWindow) -> bool:
        """Whether a step has no use for more time."""
        estimate = found.requests_per_minute
        if not found.counts or estimate is None:
            return False
        if found.is_known or self._best is None or grew(self._best, estimate):
            return True
        return not self._may_be_known(found)

    def _may_be_known(self, found: StepWindow) -> bool:
        """Whether all the time that a step may have is enough for an interval that is not rough."""
        longest_s = (self._last - self._full) / SECOND
        return found.throughput.turns * longest_s >= ROUND_TRIPS * found.window.seconds

    def _judged(self, view: "_View", ended_by: Literal["precision", "step-time"]) -> StepWindow:
        """Return the window without its warm-up transient.

        Where no cut helps, the second half stands, and is said not to be steady.
        """
        state = steady(view.series)
        cut = len(view.bins.answers) // 2 if state.cut is None else state.cut
        window = view.window(self._full, cut)
        return StepWindow(window, state.unsteady, state.undecided, ended_by, throughput(view.bins.since(cut)))

    def _prolonged(self, found: StepWindow, view: "_View") -> StepWindow:
        """Return the last window of a step with a throughput, if the step was long enough for one.

        Far above capacity a queue fills for one round trip, and cutting that off may leave less than three. They are
        shown, and said not to be steady.
        """
        trips = found.throughput.round_trips
        if found.too_short is None or not trips:
            return found
        whole = len(view.bins.answers)
        needed = ceil(_AMPLY * SHORTEST_WINDOW / trips * found.window.seconds * SECOND / view.width)
        if needed > whole:
            return found
        longer = throughput(view.bins.since(whole - needed))
        if longer.requests_per_minute is None:
            return found
        unsteady = "its warm-up transient reaches into its window, which would be too short without it"
        window = view.window(self._full, whole - needed)
        return replace(found, window=window, unsteady=unsteady, undecided=None, throughput=longer)

    def _view(self, end: int) -> "_View":
        """Return what the step shows up to a time, in at most ``MOST_VIEWED`` bins."""
        number = max(0, (end - self._full) // self._bin)
        together = -(-number // MOST_VIEWED) or 1
        number -= number % together
        bins = self._timeline.bins(number).merged(together)
        series = {
            "requests/min": bins.answers * 60 / bins.width_s,
            "output tokens/s": bins.tokens / bins.width_s,
            "requests in flight": _means(self._timeline.in_flight(number), together),
            "progress of the requests in flight": _means(self._timeline.progress(number), together),
        }
        series = {name: values for name, values in series.items() if not np.isnan(values).any()}
        return _View(together * self._bin, bins, series)


@dataclass(frozen=True, slots=True)
class _View:
    """What a step shows, in bins of ``width`` ns."""

    width: int
    bins: Bins
    series: Mapping[str, Series]
    """What has to be steady."""

    def window(self, origin: int, cut: int) -> Window:
        """Return the window of the bins from an index on; ``origin``: time of the first one."""
        return Window(origin + cut * self.width, origin + len(self.bins.answers) * self.width)

    @property
    def cut(self) -> int:
        """Where the warm-up transient ends, as far as it does."""
        return max((mser5(values) or 0 for values in self.series.values()), default=0)


def _means(series: Series, together: int) -> Series:
    return np.asarray(series.reshape(-1, together).mean(axis=1))

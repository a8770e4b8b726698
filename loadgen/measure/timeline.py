"""Counts requests into equal bins of time as they end, in time that does not grow with how many there were before."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.measure.load import Series, Spans
from loadgen.measure.throughput import Bins
from loadgen.record import RequestRecord


class Timeline:
    """Bins from ``origin`` on, ``width`` ns each; what lies outside of them is left out.

    A request touches a handful of cells however many bins it lasts: what it adds to its first and its last bin, and
    where the level that it adds to all bins between them begins and ends. A series is then one cumulative sum.
    """

    def __init__(self, origin: int, width: int, bins: int) -> None:
        self._origin, self._width, self._bins = origin, width / SECOND, bins
        self._answers, self._tokens = _Spread(bins, self._width), _Spread(bins, self._width)
        self._round_trips, self._service = _Spread(bins, self._width), _Spread(bins, self._width)
        self._token_squares, self._think = _Spread(bins, self._width), _Spread(bins, self._width)
        self._turn_squares = _Spread(bins, self._width)
        self._log_turns, self._log_turn_squares = _Spread(bins, self._width), _Spread(bins, self._width)
        self._in_flight, self._progress = _Spread(bins, self._width), _Growth(bins, self._width)
        self._all_counted = True

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Add finished requests; requests that were never sent are ignored."""
        spans = Spans.of_service(records)
        if not len(spans.sent):
            return
        sent, begun, end = ((at - self._origin) / SECOND for at in (spans.sent, spans.begun, spans.end))
        self._all_counted = self._all_counted and not np.isnan(spans.tokens).any()
        self._answers.add(begun, end, spans.answers / (end - begun))
        self._tokens.add(begun, end, np.nan_to_num(spans.tokens) / (end - begun))
        self._round_trips.add(sent, end, spans.answers)
        self._token_squares.add(begun, end, np.nan_to_num(spans.tokens) ** 2 / (end - begun))
        self._service.add(begun, end, spans.answers * spans.service / SECOND / (end - begun))
        self._think.add(begun, end, spans.answers * spans.think / SECOND / (end - begun))
        turns, logs = spans.turns_s, np.log(spans.turns_s)
        self._turn_squares.add(begun, end, spans.answers * turns**2 / (end - begun))
        self._log_turns.add(begun, end, spans.answers * logs / (end - begun))
        self._log_turn_squares.add(begun, end, spans.answers * logs**2 / (end - begun))
        self._in_flight.add(sent, end, np.ones(len(sent)))
        self._progress.add(sent, end)

    def bins(self, number: int) -> Bins:
        """Return what was served in the first bins."""
        tokens = self._tokens.series(number)
        return Bins(
            width_s=self._width,
            answers=self._answers.series(number),
            tokens=tokens if self._all_counted else np.full(len(tokens), np.nan),
            round_trips_s=self._round_trips.series(number),
            service_s=self._service.series(number),
            token_squares=self._token_squares.series(number),
            think_s=self._think.series(number),
            turn_squares=self._turn_squares.series(number),
            log_turns=self._log_turns.series(number),
            log_turn_squares=self._log_turn_squares.series(number),
        )

    def in_flight(self, number: int) -> Series:
        """Return the mean number of requests in flight in each of the first bins."""
        return self._in_flight.series(number) / self._width

    def progress(self, number: int) -> Series:
        """Return the progress of the in-flight requests in each of the first bins: the sum of their elapsed shares.

        Over a window it changes by the answers spread over that window minus the answers that ended in it. While a
        queue fills, it rises from 0 to half the number in flight.
        """
        return self._progress.series(number) / self._width


class _Spread:
    """Sums of levels over time, integrated over each bin; times in seconds from the origin."""

    def __init__(self, bins: int, width: float) -> None:
        self._bins, self._width = bins, width
        self._parts = np.zeros(bins + 1)
        """What is in the first and the last bin of each span."""
        self._levels = np.zeros(bins + 2)
        """Where a level begins (+) and ends (-) in the bins between."""

    def add(self, start: Series, end: Series, level: Series) -> None:
        """Add a level from each start to each end."""
        start, end = (np.clip(at, 0.0, self._bins * self._width) for at in (start, end))
        first, last = ((at // self._width).astype(np.int64) for at in (start, end))
        np.add.at(self._parts, first, level * ((first + 1) * self._width - start))
        np.add.at(self._parts, last, level * (end - last * self._width))
        np.add.at(self._levels, first + 1, level * self._width)
        np.add.at(self._levels, last, -level * self._width)

    def series(self, number: int) -> Series:
        """Return the sums of the first bins."""
        return _without_rounding(self._parts[:number] + np.cumsum(self._levels[:number]))


class _Growth:
    """Sums over spans of the share of each that has passed, integrated over each bin."""

    def __init__(self, bins: int, width: float) -> None:
        self._bins, self._width = bins, width
        self._parts, self._constants, self._slopes = np.zeros(bins + 1), np.zeros(bins + 2), np.zeros(bins + 2)

    def add(self, start: Series, end: Series) -> None:
        """Add spans: each grows from 0 at its start to 1 at its end."""
        rate, width = np.asarray(1 / (end - start), dtype=float), self._width
        low, high = (np.asarray(np.clip(at, 0.0, self._bins * width), dtype=float) for at in (start, end))
        first, last = ((at // width).astype(np.int64) for at in (low, high))

        def area(at: NDArray[np.floating[Any]]) -> Series:
            return np.asarray(rate * (at - start) ** 2 / 2, dtype=float)

        np.add.at(self._parts, first, area((first + 1) * width) - area(low))
        np.add.at(self._parts, last, area(high) - area(last * width))
        # A whole bin k has the area rate * width * ((k + 1/2) * width - start).
        for at, sign in ((first + 1, 1.0), (last, -1.0)):
            np.add.at(self._constants, at, sign * rate * width * (width / 2 - start))
            np.add.at(self._slopes, at, sign * rate * width**2)

    def series(self, number: int) -> Series:
        """Return the sums of the first bins."""
        whole = np.cumsum(self._constants[:number]) + np.arange(number) * np.cumsum(self._slopes[:number])
        return _without_rounding(self._parts[:number] + whole)


def _without_rounding(series: Series) -> Series:
    """Return a series of sums with 0 in place of what is left of differences of equal numbers."""
    series[np.abs(series) <= 1e-9 * np.abs(series).max(initial=0.0)] = 0.0
    return series

"""Throughput of a window: what was served in it, bin by bin, and whether the window is long enough for an interval.

A streamed answer counts evenly over the end of its round trip, over twice the time in which its tokens arrived at most.
Without a stream it counts over its whole round trip. An answer to a user who thinks counts over the user's cycle.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.measure.intervals import mean_of_series
from loadgen.measure.limits import ENOUGH_REQUESTS, ROUND_TRIPS, SHORTEST_WINDOW
from loadgen.measure.load import Series, Spans
from loadgen.measure.statistics import Estimate, Z
from loadgen.record import RequestRecord


@dataclass(frozen=True, slots=True)
class Bins:
    """What was served in equal bins of time; each series has one element a bin."""

    width_s: float
    answers: Series
    tokens: Series
    """Output tokens of complete answers; nan in bins with an answer that has no token count."""
    round_trips_s: Series
    """Round-trip time of complete answers, summed, s; each spread evenly over its round trip."""
    service_s: Series
    """Service time of complete answers, summed, s; each spread as ``answers``."""
    token_squares: Series
    """Squared output tokens of complete answers, spread as ``tokens``."""
    think_s: Series
    """Think time before complete answers, summed, s; each spread as ``answers``."""

    @classmethod
    def of(cls, records: Iterable[RequestRecord], edges: NDArray[np.int64], *, cycles: bool = False) -> "Bins":
        """Count records into the bins between edges, ns; ``cycles``: spread each answer over its user's cycle."""
        service = Spans.of_cycles(records) if cycles else Spans.of_service(records)
        whole = replace(service, begun=service.sent)
        lasted = service.service / SECOND
        return cls(
            width_s=float(edges[1] - edges[0]) / SECOND,
            answers=service.answers_served(edges),
            tokens=service.tokens_served(edges),
            round_trips_s=whole.served(whole.answers * (whole.end - whole.sent) / SECOND, edges),
            service_s=service.served(service.answers * lasted, edges),
            token_squares=service.served(service.tokens**2, edges),
            think_s=service.served(service.answers * service.think / SECOND, edges),
        )

    def since(self, cut: int) -> "Bins":
        """Return the bins from an index on."""
        return Bins(self.width_s, *(values[cut:] for values in self._series))

    def merged(self, together: int) -> "Bins":
        """Return bins of ``together`` of these each; their number has to be a multiple of it."""
        if together == 1:
            return self
        return Bins(self.width_s * together, *(values.reshape(-1, together).sum(axis=1) for values in self._series))

    @property
    def _series(self) -> tuple[Series, ...]:
        return self.answers, self.tokens, self.round_trips_s, self.service_s, self.token_squares, self.think_s

    @property
    def seconds(self) -> float:
        """Length of all bins together."""
        return self.width_s * len(self.answers)

    @property
    def mean_round_trip_s(self) -> float | None:
        """Mean round trip of a complete answer, None where there was none."""
        return _ratio(self.round_trips_s, self.answers)

    @property
    def mean_service_s(self) -> float | None:
        """Mean time in which an answer's tokens arrived, None where there was no answer."""
        return _ratio(self.service_s, self.answers)

    @property
    def mean_think_s(self) -> float:
        """Mean think time before a complete answer; 0 where users do not think."""
        return _ratio(self.think_s, self.answers) or 0.0

    @property
    def length_cv(self) -> float:
        """Coefficient of variation of the answers' output tokens, 0 where they were not counted."""
        mean, square = _ratio(self.tokens, self.answers), _ratio(self.token_squares, self.answers)
        return sqrt(max(0.0, square / mean**2 - 1)) if mean and square and mean > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was served in a window; the 95 % intervals are both there, or neither is."""

    answers: float
    """Complete answers. An answer that crosses an edge of the window counts in proportion."""
    round_trips: float
    """Length of the window in mean round trips, of users who think in mean cycles; 0 where no answer was complete."""
    requests_per_minute: Estimate | None
    """None where the window is shorter than three of those."""
    tokens_per_second: Estimate | None
    """None also where an answer has no token count."""
    long_enough: bool = False
    """Whether the window is long enough for an interval, which may still be refused."""


def throughput(bins: Bins) -> Throughput:
    """Return the throughput over all bins.

    A window shorter than three mean round trips has none: what is in flight at its edges is as much as what was served.
    An interval needs ``ENOUGH_REQUESTS`` answers, and a window of ``ROUND_TRIPS`` mean times of service. Think time
    is part of both times: users keep one rhythm for about one cycle. The interval is refused for both figures where it
    is for one: requests/min alone does not show an engine whose speed changes slowly.
    """
    answers = float(bins.answers.sum())
    round_trip, service, think = bins.mean_round_trip_s, bins.mean_service_s, bins.mean_think_s
    if not round_trip or not service:
        return Throughput(answers, 0.0, None, None)
    round_trips = bins.seconds / (round_trip + think)
    if round_trips < SHORTEST_WINDOW:
        return Throughput(answers, round_trips, None, None)
    per_minute = _mean(bins.answers * 60 / bins.width_s, answers)
    per_second = None if np.isnan(bins.tokens).any() else _mean(bins.tokens / bins.width_s, answers)
    long = answers >= ENOUGH_REQUESTS and bins.seconds >= ROUND_TRIPS * (service + think)
    if not long or any(e is not None and e.ci95 is None for e in (per_minute, per_second)):
        per_minute = replace(per_minute, ci95=None)
        per_second = None if per_second is None else replace(per_second, ci95=None)
    least = Z * bins.length_cv / sqrt(max(answers, 1.0))
    if per_second is not None:
        per_second = _stretched(per_second, _shortfall(per_minute, least), least)
    return Throughput(answers, round_trips, _at_least(per_minute, least), per_second, long)


def _at_least(estimate: Estimate, share: float) -> Estimate:
    """Return an estimate whose interval reaches at least a share of its value to both sides.

    How many answers an engine gives in a time is known no better than their mean length: n answers whose lengths have a
    coefficient of variation c to c / sqrt(n) (D. Cox, Renewal Theory, 1962, 3.3). Where long answers are rare, a window
    without any of them looks steady.
    """
    if estimate.ci95 is None:
        return estimate
    low, high = estimate.ci95
    half = share * estimate.value
    return replace(estimate, ci95=(min(low, max(0.0, estimate.value - half)), max(high, estimate.value + half)))


def _shortfall(estimate: Estimate, share: float) -> float:
    """Return by which factor an interval is narrower than a share of its value to both sides; 1 where it is not."""
    if estimate.ci95 is None:
        return 1.0
    low, high = estimate.ci95
    half = (high - low) / 2
    if half <= 0:
        return inf if share > 0 else 1.0
    return max(1.0, share * estimate.value / half)


def _stretched(estimate: Estimate, factor: float, share: float) -> Estimate:
    """Return an estimate with its interval stretched by a factor, and by a share of its value at most, to each side.

    Where the batches of a window show too little of how lengths vary, tokens/s suffers as requests/min does: of a
    batching engine with lengths of CV 2 the two intervals are too narrow by the same factor, 1.0 to 1.6 (DECISIONS,
    "tokens/s follows the lengths as well"). Lengths move tokens/s by no more than they move requests/min.
    """
    if estimate.ci95 is None:
        return estimate
    value, most = estimate.value, share * estimate.value
    halves = (value - estimate.ci95[0], estimate.ci95[1] - value)
    below, above = (min(half * factor, half + most) if half > 0 else 0.0 for half in halves)
    return replace(estimate, ci95=(max(0.0, value - below), value + above))


def _mean(series: Series, answers: float) -> Estimate:
    estimate = mean_of_series(series)
    assert estimate is not None
    return replace(estimate, n=round(answers))


def _ratio(seconds: Series, answers: Series) -> float | None:
    total = float(answers.sum())
    return float(seconds.sum()) / total if total > 0 else None

"""Throughput of a window: what was served in it, bin by bin, and how well it is known.

A streamed answer counts evenly over the end of its round trip, over twice the time in which its tokens arrived at most.
Without a stream it counts over its whole round trip. An answer to a user who thinks counts over the user's cycle.

Intervals are of two kinds. A window of twenty times of service has batch means. Of a shorter one little is known: by
how much its answers differ, and how far throughput went up and down. Its interval is rough.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.measure.few_answers import FEWEST, around, relative_error, students_error, with_pace
from loadgen.measure.intervals import BATCHES, mean_of_series
from loadgen.measure.limits import ENOUGH_REQUESTS, ROUND_TRIPS, SHORTEST_WINDOW
from loadgen.measure.load import Series, Spans
from loadgen.measure.statistics import Estimate, Z
from loadgen.printable import counted
from loadgen.record import RequestRecord

_NO_THINKING = 0.01
"""Share of a round trip up to which the pauses between answers are the client's own."""

_ROUNDING = 1e-6
"""Share by which a window of whole bins may be shorter than the answers that fill it."""


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
    turn_squares: Series
    """Squares of the turns of complete answers, summed, s^2; each spread as ``answers``. A turn is the time of service
    and the think time before it: what decides how many answers there are."""
    log_turns: Series
    """Logarithms of the turns, in s, likewise."""
    log_turn_squares: Series
    """Squares of these, likewise."""

    @classmethod
    def of(cls, records: Iterable[RequestRecord], edges: NDArray[np.int64], *, cycles: bool = False) -> "Bins":
        """Count records into the bins between edges, ns; ``cycles``: spread each answer over its user's cycle."""
        service = Spans.of_cycles(records) if cycles else Spans.of_service(records)
        whole = replace(service, begun=service.sent)
        lasted, logs = service.service / SECOND, np.log(service.turns_s)
        return cls(
            width_s=float(edges[1] - edges[0]) / SECOND,
            answers=service.answers_served(edges),
            tokens=service.tokens_served(edges),
            round_trips_s=whole.served(whole.answers * (whole.end - whole.sent) / SECOND, edges),
            service_s=service.served(service.answers * lasted, edges),
            token_squares=service.served(service.tokens**2, edges),
            think_s=service.served(service.answers * service.think / SECOND, edges),
            turn_squares=service.served(service.answers * service.turns_s**2, edges),
            log_turns=service.served(service.answers * logs, edges),
            log_turn_squares=service.served(service.answers * logs**2, edges),
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
        return tuple(getattr(self, f.name) for f in fields(self) if f.name != "width_s")

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
    def wait_share(self) -> float:
        """Share of a user's time in which no token arrives, 1 where answers were not streamed; of some answers."""
        cycle = (self.mean_round_trip_s or 0.0) + self.mean_think_s
        waiting = 1 - (self.mean_service_s or 0.0) / cycle
        return waiting if waiting > _ROUNDING else 1.0

    @property
    def length_cv(self) -> float:
        """Coefficient of variation of the answers' output tokens, 0 where they were not counted."""
        return _cv(_ratio(self.tokens, self.answers), _ratio(self.token_squares, self.answers))

    @property
    def turn_error(self) -> float:
        """How well the mean turn is known, as half of an interval on a logarithmic scale; of three answers and more."""
        n = max(FEWEST, round(float(self.answers.sum())))
        sample = n / (n - 1)
        cv = sqrt(sample) * _cv(_ratio(self.service_s + self.think_s, self.answers), self._mean(self.turn_squares))
        log_variance = sample * max(0.0, self._mean(self.log_turn_squares) - self._mean(self.log_turns) ** 2)
        return relative_error(cv, log_variance, n)

    def _mean(self, series: Series) -> float:
        """Return the mean over the answers, of which there are some."""
        return float(series.sum()) / float(self.answers.sum())


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
    turns: float = 0.0
    """Length of the window in mean turns, that is times of service and think times."""
    is_rough: bool = False
    """Whether the intervals are those of a window of a few round trips."""
    no_interval: str | None = None
    """Why there are no intervals, if so."""


def throughput(bins: Bins, *, closed_loop: bool = True) -> Throughput:
    """Return the throughput over all bins.

    A window shorter than three mean round trips has none: what is in flight at its edges is as much as what was served.

    Batch means need ``ENOUGH_REQUESTS`` answers, and a window of ``ROUND_TRIPS`` mean times of service. Think time is
    part of both times: users keep one rhythm for about one cycle. They are refused for both figures where they are for
    one: requests/min alone does not show an engine whose speed changes slowly. Without batch means the intervals are
    rough. ``closed_loop``: whether the bins hold all answers to the users of a closed loop; else there are no rough
    intervals, as they follow from answers that wait for each other.
    """
    answers = float(bins.answers.sum())
    round_trip, service, think = bins.mean_round_trip_s, bins.mean_service_s, bins.mean_think_s
    if not round_trip or not service:
        return Throughput(answers, 0.0, None, None, no_interval="no answer was complete in its window")
    round_trips, turns = bins.seconds / (round_trip + think), bins.seconds / (service + think)
    if round_trips < SHORTEST_WINDOW * (1 - _ROUNDING):
        trips = "cycles of users who think" if think > _NO_THINKING * round_trip else "round trips"
        too_short = f"its window holds {round_trips:.1f} {trips}, a throughput needs {SHORTEST_WINDOW}"
        return Throughput(answers, round_trips, None, None, turns, no_interval=too_short)
    per_minute = _mean(bins.answers * 60 / bins.width_s, answers)
    per_second = None if np.isnan(bins.tokens).any() else _mean(bins.tokens / bins.width_s, answers)
    is_long = answers >= ENOUGH_REQUESTS and turns >= ROUND_TRIPS
    if is_long and not any(e is not None and e.ci95 is None for e in (per_minute, per_second)):
        least = Z * bins.length_cv / sqrt(answers)
        if per_second is not None:
            per_second = _stretched(per_second, _shortfall(per_minute, least), least)
        return Throughput(answers, round_trips, _at_least(per_minute, least), per_second, turns)
    if closed_loop:
        per_minute = _rough(per_minute, bins.answers, round_trips, bins.turn_error)
        if per_second is not None:
            share = min(1.0, answers / round_trips * bins.wait_share)
            per_second = _rough(per_second, bins.tokens, round_trips, share * bins.turn_error)
        return Throughput(answers, round_trips, per_minute, per_second, turns, is_rough=True)
    needed = f"an interval needs {ENOUGH_REQUESTS} and {ROUND_TRIPS}"
    why = f"its window holds {counted(round(answers), 'answer')} and {turns:.1f} times of service, {needed}"
    if is_long:
        why = "throughput changed too slowly for a window of this length"
    neither = _without_interval(per_minute), _without_interval(per_second)
    return Throughput(answers, round_trips, *neither, turns, no_interval=why)


def _rough(estimate: Estimate, series: Series, round_trips: float, turn_error: float) -> Estimate:
    """Return an estimate with the interval for a window of a few round trips.

    In a closed loop requests/s are users / (mean round trip + think time), so that they are known as well as the mean
    turn of the answers, apart from the engine's pace. Answers that share an engine may have more in common: the
    interval is at least Student's over the round trips of the window, ten at most.

    Output tokens/s depend on the lengths only as far as answers wait for their first token, each for the prefills of
    all users at most: that share of a round trip, times the users.
    """
    batches = np.array_split(series, min(BATCHES, int(round_trips + _ROUNDING)))
    by_batches = students_error([float(batch.mean()) for batch in batches]) / float(series.mean())
    return replace(estimate, ci95=around(estimate.value, max(with_pace(turn_error), by_batches)))


def _without_interval(estimate: Estimate | None) -> Estimate | None:
    return None if estimate is None else replace(estimate, ci95=None)


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


def _cv(mean: float | None, mean_square: float | None) -> float:
    """Return the coefficient of variation, 0 where there is nothing that varies."""
    return sqrt(max(0.0, mean_square / mean**2 - 1)) if mean and mean_square and mean > 0 else 0.0


def _ratio(seconds: Series, answers: Series) -> float | None:
    total = float(answers.sum())
    return float(seconds.sum()) / total if total > 0 else None

"""The speed of one user, whose answers follow one another: two readings of it, each with its 95 % interval."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.few_answers import FEWEST, around, students_error, tail_factor, with_pace
from loadgen.measure.intervals import in_order
from loadgen.measure.limits import ENOUGH_REQUESTS
from loadgen.measure.pace import MOST_OF_ONE, pace, widened
from loadgen.measure.statistics import Estimate, mean, ratio_of_totals

FEWEST_FOR_PACE = round(1 / MOST_OF_ONE)
"""Fewest answers that show whether the engine keeps its pace."""

Series = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Speed:
    """Output tokens/s of one user; both readings are None where no answer has a token."""

    mean: Estimate | None = None
    """Mean over the answers of their own speeds."""
    total: Estimate | None = None
    """All tokens over all round-trip time: long answers weigh more."""
    no_interval: str | None = None
    """Why a reading has no interval, if so."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One of the two: its value, and a series whose mean moves the value, ``scale`` times."""

    value: float
    series: Sequence[float]
    scale: float = 1.0

    def of_few(self, tail: float, wandering: Series | None) -> Estimate:
        """Return it with the interval for few answers, which includes an unseen pace where none is found."""
        n, error = len(self.series), tail * self.scale * students_error(self.series) / self.value
        if n >= FEWEST_FOR_PACE:
            estimate = self.checked(around(self.value, error), wandering)
            if estimate.ci95 is not None:
                low, high = estimate.ci95
                return replace(estimate, ci95=(max(0.0, low), high))
        return Estimate(self.value, around(self.value, with_pace(error)), n)

    def checked(self, ci95: Interval | None, wandering: Series | None) -> Estimate:
        """Return it with an interval for independent answers, widened or refused where neighbours are alike."""
        independent = Estimate(self.value, ci95, len(self.series))
        return widened(in_order(independent, self.series, self.scale), wandering)


def speed(tokens: Sequence[float], seconds: Sequence[float]) -> Speed:
    """Return the speed that some answers show, in the order in which they were sent.

    ``tokens``: output tokens of each answer, above 0; ``seconds``: its round trip, above 0.

    More than 30 answers have the interval of the bootstrap, widened or refused where neighbours are alike. Fewer have
    the one for few answers. From 15 on it is widened likewise; with fewer, and where it would be refused, it includes
    what an engine's pace may wander unseen.
    """
    n = len(tokens)
    if not n:
        return Speed()
    rates = [t / s for t, s in zip(tokens, seconds, strict=True)]
    ratio = sum(tokens) / sum(seconds)
    rest = [t - ratio * s for t, s in zip(tokens, seconds, strict=True)]
    of_mean, of_total = _Reading(fmean(rates), rates), _Reading(ratio, rest, n / sum(seconds))
    if n < FEWEST:
        too_few = f"n is too small: an interval needs {FEWEST} answers"
        return Speed(Estimate(of_mean.value, None, n), Estimate(of_total.value, None, n), too_few)
    wandering = pace(tokens, seconds)
    if n <= ENOUGH_REQUESTS:
        tail = tail_factor(tokens)
        return Speed(of_mean.of_few(tail, wandering), of_total.of_few(tail, wandering))
    bootstrapped, of_totals = mean(rates), ratio_of_totals(tokens, seconds)
    assert bootstrapped is not None
    assert of_totals is not None
    found = of_mean.checked(bootstrapped.ci95, wandering), of_total.checked(of_totals.ci95, wandering)
    refused = any(estimate.ci95 is None for estimate in found)
    why = "the engine's pace changed too slowly for a run of this length" if refused else None
    return Speed(found[0], found[1], why)

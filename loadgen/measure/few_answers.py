"""Intervals for means of a few answers, where the bootstrap and batch means hold the truth too seldom.

Answers differ in length by a coefficient of variation of 0.5 to 2, with a long tail. Few of them show neither how much
they differ nor the tail: the bootstrap of 5 lognormal values of CV 1 holds their mean in 75 of 100 samples, Student's
interval in 88. The interval for the mean of a lognormal distribution holds it in 94. It works with the variance of
logarithms, which does not depend on having seen the tail.

Neither do a few answers show how an engine behaves at another time. What its pace may wander in the meantime is added.

``scripts/bench coverage --part small`` measures how often these intervals hold the truth.
"""

from collections.abc import Sequence
from math import exp, hypot, log1p, sqrt

import numpy as np

from loadgen.measure.quantiles import student
from loadgen.measure.statistics import Z

FEWEST = 3
"""Fewest answers for an interval. That of two reaches up to 16 times their mean (lengths of CV 0.5) or 16,000 times (CV
2), and has no width where they happen to be equally long."""

PACE = 0.05
"""Standard deviation of an engine's pace from one time to another, as a share, that a few answers do not show."""

PACE_ERROR = Z * PACE

_MORE = 5.0
"""The variance of logarithms counts up to 1 + 5 / sqrt(n) times that by the coefficient of variation. Without a limit a
few answers of one token would decide: of 200 exponential values the interval would be 1.8 times too wide."""

_UPPER = 0.975


def relative_error(cv: float, log_variance: float, n: int) -> float:
    """Return the half-width of the 95 % interval for a mean of n values, on a logarithmic scale; n is at least 2.

    D. Cox's interval for the mean of a lognormal distribution, with Student's t (U. Olsson, Confidence Intervals for
    the Mean of a Log-Normal Distribution, Journal of Statistics Education 13, 2005).

    ``cv``: coefficient of variation of the values; ``log_variance``: variance of their logarithms.
    """
    by_cv = log1p(cv**2)
    variance = min(max(log_variance, by_cv), (1 + _MORE / sqrt(n)) * by_cv)
    return student(n - 1, _UPPER) * sqrt(variance / n + variance**2 / (2 * (n - 1)))


def tail_factor(values: Sequence[float]) -> float:
    """Return by how much the interval for the mean of some positive values is wider than Student's; at least 1."""
    x = np.asarray(values, dtype=float)
    n, cv = len(x), float(x.std(ddof=1) / x.mean())
    if cv == 0:
        return 1.0
    students = student(n - 1, _UPPER) * cv / sqrt(n)
    return max(1.0, relative_error(cv, float(np.log(x).var(ddof=1)), n) / students)


def students_error(values: Sequence[float]) -> float:
    """Return the half-width of Student's 95 % interval for the mean of independent values; two at least."""
    n = len(values)
    return student(n - 1, _UPPER) * float(np.std(values, ddof=1)) / sqrt(n)


def with_pace(error: float) -> float:
    """Return a half-width on a logarithmic scale with what an engine's pace may wander in addition."""
    return hypot(error, PACE_ERROR)


def around(value: float, error: float) -> tuple[float, float]:
    """Return the interval around a positive value with a half-width on a logarithmic scale."""
    return value * exp(-error), value * exp(error)

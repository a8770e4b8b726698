"""The engine's own pace: how long answers take, once the effect of their length is taken out.

One user's speeds scatter mostly because answers differ in length. An engine whose pace wanders slowly hides beneath
that scatter, yet its wandering does not average out as quickly. Taken relative to what an answer of its length takes,
the wandering shows.
"""

from dataclasses import replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.intervals import effective_sample_size
from loadgen.measure.statistics import Estimate, Values, Z

FEWEST = 10
"""Answers, to fit a line through."""

HIGHEST = 0.99
"""Of a coefficient and of a share: beyond it a process has no mean that a short series shows."""

NO_MATTER = 1e-9
"""A pace that varies by less does not wander."""

MATTERS = 0.25
"""Of an interval, what wandering may add to it unnoticed."""

MOST_OF_ONE = 1 / 15
"""Where the mean varies by more than this share of the variance of single values, the series is too short to tell."""


def pace(tokens: Values, seconds: Values) -> NDArray[np.float64] | None:
    """Return the time of each answer over that of the line through all: seconds = a + b tokens.

    None with fewer than ten answers, and where the line is not above 0 for each of them.
    """
    n, t = np.asarray(tokens, dtype=float), np.asarray(seconds, dtype=float)
    if len(n) < FEWEST:
        return None
    centred = n - n.mean()
    spread = float(centred @ centred)
    slope = float(centred @ t) / spread if spread > 0 else 0.0
    expected = t.mean() + slope * centred
    return t / expected if float(expected.min()) > 0 else None


def widened(estimate: Estimate, relative: NDArray[np.float64] | None) -> Estimate:
    """Return an estimate of independent answers with the interval for an engine whose pace has this series.

    With v the variance of the mean as a share of that of single values, a sample's variance s^2 is that of single
    values times 1 - v. So the mean has the variance s^2 v / (1 - v), in place of s^2 / n; what that adds is added in
    quadrature. Where it matters and v is above ``MOST_OF_ONE``, the interval is refused.
    """
    if estimate.ci95 is None or relative is None or float(np.ptp(relative)) <= NO_MATTER:
        return estimate
    low, high = ((estimate.value - estimate.ci95[0]), (estimate.ci95[1] - estimate.value))
    share, n = _share_of_mean(relative), len(relative)
    more = share / (1 - share) - 1 / n
    added = Z * estimate.value * sqrt(max(0.0, float(relative.var(ddof=1)) * more))
    if share > MOST_OF_ONE and added > MATTERS * min(low, high):
        return replace(estimate, ci95=None)
    below, above = sqrt(low**2 + added**2), sqrt(high**2 + added**2)
    return replace(estimate, ci95=(estimate.value - below, estimate.value + above))


def _share_of_mean(series: NDArray[np.float64]) -> float:
    """Return the variance of the mean as a share of that of single values: 1 / n where they are independent.

    The larger of two: by the effective size, and of an autoregressive process of the first order whose coefficient is
    the autocorrelation of neighbours. In short series that is too small by (1 + 3 r) / n (M. Kendall, Note on bias in
    the estimation of autocorrelation, Biometrika 41, 1954), which is corrected.
    """
    n = len(series)
    centred = series - series.mean()
    r = float(centred[:-1] @ centred[1:]) / float(centred @ centred)
    r = min((n * r + 1) / (n - 3), HIGHEST)
    if r <= 0:
        return 1 / effective_sample_size(series)
    process = (n * (1 - r**2) - 2 * r * (1 - r**n)) / (n * (1 - r)) ** 2
    return min(max(process, 1 / effective_sample_size(series)), HIGHEST)

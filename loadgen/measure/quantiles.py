"""Quantiles of the normal distribution and of Student's t.

scipy has both, and takes half a second of each process to import.
"""

from functools import lru_cache
from math import cos, pi, sin, sqrt, tan
from statistics import NormalDist

_HALVINGS = 60
"""Of the interval in which the quantile lies: what is left is below the precision of a float."""


def normal(probability: float) -> float:
    """Return the quantile of the standard normal distribution; 0 < probability < 1."""
    return NormalDist().inv_cdf(probability)


@lru_cache(maxsize=256)
def student(degrees: int, probability: float) -> float:
    """Return the quantile of Student's t with whole degrees of freedom; 0.5 <= probability < 1.

    Found by bisection of the distribution function.
    """
    within = 2 * probability - 1
    low, high = 0.0, pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _within(middle, degrees) < within:
            low = middle
        else:
            high = middle
    return sqrt(degrees) * tan((low + high) / 2)


def _within(angle: float, degrees: int) -> float:
    """Return the probability of -t to t, where t = sqrt(degrees) tan(angle).

    M. Abramowitz, I. Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    square = cos(angle) ** 2
    odd = degrees % 2
    term = cos(angle) if odd else 1.0
    total = 0.0
    for factor in range(2 + odd, degrees + 1, 2):
        total += term
        term *= square * (factor - 1) / factor
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total

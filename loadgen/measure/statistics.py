"""Estimates with their intervals, and percentiles where the sample supports them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

RESAMPLES = 9_999
SEED = 0
"""Of the bootstrap: the same records give the same report."""

LARGEST_BOOTSTRAP = 10_000
"""Most values that are resampled: two intervals then take 2 CPU-seconds. Beyond, the central limit theorem gives the
interval: for gamma and lognormal values of this number its ends lie 1 % of the half width from those of the bootstrap,
no more than these differ from seed to seed."""

_BATCH = 1 << 18
"""Values drawn at a time: 2 MiB of indices, which fit into a processor's cache."""

Values = Sequence[float] | NDArray[np.float64] | NDArray[np.int64]

_CONFIDENCE = 0.95
Z = 1.959964
"""Quantile of the normal distribution for that."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


SMALLEST_MEDIAN = 2
"""Fewest values from which a median is printed."""


def smallest_sample(quantile: float) -> int:
    """Return the fewest independent values for a two-sided 95 % interval of a quantile: p^n <= 0.025."""
    return math.ceil(math.log(0.025) / math.log(max(quantile, 1 - quantile)))


def fewest_values(quantile: float) -> int:
    """Return the fewest independent values from which a quantile is printed.

    Below ``smallest_sample`` values no interval of a quantile exists without assumptions on the distribution: the p99
    of 50 values would be their maximum under another name. A median is in the middle of any sample, and ``n`` states
    what it is worth.
    """
    return SMALLEST_MEDIAN if quantile == QUANTILES["p50"] else smallest_sample(quantile)


SMALLEST_SAMPLE = {name: fewest_values(quantile) for name, quantile in QUANTILES.items()}
"""Fewest values from which each percentile is printed, everywhere. They hold for independent values."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; no interval where the sample is too small for one."""

    value: float
    ci95: tuple[float, float] | None
    n: int


class Distribution(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How values are distributed: only what their number supports."""

    n: int
    n_eff: float | None = None
    """Number of effectively independent values, where values follow one another."""
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    observed_p99: float | None = None
    """The p99 of these very values, which estimates no other."""
    ci95: dict[str, tuple[float, float]] | None = None
    """95 % intervals of the mean and of percentiles; None where values are taken as independent."""
    not_resolvable: list[str] | None = None
    """Percentiles that the number of values does not support."""
    needs: dict[str, int] | None = None
    """For each of those, the fewest (effectively independent) values for it."""

    def percentile(self, name: str) -> float | None:
        """Return a percentile by its name, such as ``p50``; also ``mean``, ``max`` and ``observed_p99``."""
        value: float | None = getattr(self, name)
        return value

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the 95 % interval of the mean or of a percentile."""
        return (self.ci95 or {}).get(name)


def mean(values: Values) -> Estimate | None:
    """Return the mean with its 95 % interval, None of nothing."""
    if not len(values):
        return None
    array = np.asarray(values, dtype=float)
    return Estimate(float(array.mean()), _interval([array]), len(array))


def ratio_of_totals(numerators: Values, denominators: Values) -> Estimate | None:
    """Return sum / sum with its 95 % interval over pairs, None of nothing."""
    if not len(numerators):
        return None
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    return Estimate(float(top.sum() / bottom.sum()), _interval([top, bottom]), len(top))


def percentile(values: Values, quantile: float) -> float:
    """Return the value at sorted index floor(n * quantile), the definition of MLPerf LoadGen (results.cc)."""
    index = index_of(len(values), quantile)
    return nth(values, index) if isinstance(values, np.ndarray) else sorted(values)[index]


def nth(values: NDArray[np.float64] | NDArray[np.int64], index: int) -> float:
    """Return the value that would be at an index if all were sorted."""
    return float(np.partition(values, index)[index])


def index_of(n: int, quantile: float) -> int:
    """Return where a quantile stands among n sorted values."""
    return min(n - 1, int(n * quantile))


def distribution(values: Values) -> Distribution:
    """Return n, mean and the percentiles that n values support; an array of floats is sorted in place.

    ``not_resolvable`` names the other percentiles, ``needs`` maps each of them to the fewest values for it.
    """
    if not len(values):
        return Distribution(n=0)
    ordered = np.asarray(values, dtype=float)
    ordered.sort()  # once for all percentiles, and no copy: there are gaps by the million
    n = len(ordered)
    needs = {name: smallest for name, smallest in SMALLEST_SAMPLE.items() if n < smallest}
    known: dict[str, Any] = {
        name: float(ordered[index_of(n, quantile)]) for name, quantile in QUANTILES.items() if name not in needs
    }
    return Distribution(n=n, mean=float(ordered.mean()), **known, not_resolvable=list(needs), needs=needs)


def _interval(columns: Sequence[NDArray[np.float64]]) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean (one column) or of a ratio of sums (two columns); None below two values.

    Values are taken as independent: it is used for the requests of one user, which follow one another.
    """
    n = len(columns[0])
    if n < 2:  # noqa: PLR2004 nothing to resample
        return None
    return _bootstrap(columns) if n <= LARGEST_BOOTSTRAP else _normal(columns)


def _bootstrap(columns: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the percentile interval of the bootstrap.

    B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Resamples are drawn in batches, so
    that memory does not grow with their number. The batch size does not change what is drawn.
    """
    n = len(columns[0])
    rng, rows = np.random.default_rng(SEED), max(1, _BATCH // n)
    estimates = []
    for start in range(0, RESAMPLES, rows):
        drawn = rng.integers(0, n, size=(min(rows, RESAMPLES - start), n))
        estimates.append(_ratio([column[drawn] for column in columns]))
    low, high = np.quantile(np.concatenate(estimates), ((1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2))
    return float(low), float(high)


def _ratio(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean of each row of one column, or the ratio of the sums of each row of two."""
    if len(columns) == 1:
        return np.asarray(columns[0].mean(axis=1))
    return np.asarray(columns[0].sum(axis=1) / columns[1].sum(axis=1))


def _normal(columns: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the interval by the central limit theorem; of a ratio by the delta method.

    W. Cochran, Sampling Techniques, 1977, 2.11 and 6.4: the variance of a ratio is that of numerator - ratio *
    denominator, over the squared mean of the denominators.
    """
    top, bottom = columns[0], columns[1] if len(columns) > 1 else np.ones_like(columns[0])
    value = float(top.sum() / bottom.sum())
    error = float((top - value * bottom).std(ddof=1) / bottom.mean()) / math.sqrt(len(top))
    return value - Z * error, value + Z * error

"""Estimates with their intervals, and percentiles where the sample supports them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 9_999
SEED = 0
"""Of the bootstrap: the same records give the same report."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def smallest_sample(quantile: float) -> int:
    """Return the fewest independent values for a two-sided 95 % interval of a quantile: p^n <= 0.025."""
    return math.ceil(math.log(0.025) / math.log(max(quantile, 1 - quantile)))


SMALLEST_SAMPLE = {name: smallest_sample(quantile) for name, quantile in QUANTILES.items()}
"""Fewest values from which a percentile is printed: below, no interval of it exists without assumptions on the
distribution. They hold for independent values."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; no interval where the sample is too small for one."""

    value: float
    ci95: tuple[float, float] | None
    n: int


def mean(values: Sequence[float]) -> Estimate | None:
    """Return the mean with a bootstrap interval, None of nothing."""
    if not values:
        return None
    array = np.asarray(values, dtype=float)
    return Estimate(float(array.mean()), _bootstrap(array), len(array))


def ratio_of_totals(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    """Return sum / sum with a bootstrap interval over pairs, None of nothing."""
    if not numerators:
        return None
    pairs = np.column_stack([numerators, denominators]).astype(float)
    total = pairs.sum(axis=0)
    return Estimate(float(total[0] / total[1]), _bootstrap(pairs), len(pairs))


def percentile(values: Sequence[float], quantile: float) -> float:
    """Return the value at sorted index floor(n * quantile), the definition of MLPerf LoadGen (results.cc)."""
    return sorted(values)[index_of(len(values), quantile)]


def index_of(n: int, quantile: float) -> int:
    """Return where a quantile stands among n sorted values."""
    return min(n - 1, int(n * quantile))


def distribution(values: Sequence[float] | NDArray[np.float64]) -> dict[str, float | int]:
    """Return n, mean and the percentiles that n values support."""
    if not len(values):
        return {"n": 0}
    ordered = np.sort(np.asarray(values, dtype=float))  # once for all percentiles: there are gaps by the million
    result: dict[str, float | int] = {"n": len(ordered), "mean": float(ordered.mean())}
    for name, smallest in SMALLEST_SAMPLE.items():
        if len(ordered) >= smallest:
            result[name] = float(ordered[index_of(len(ordered), QUANTILES[name])])
    return result


def _bootstrap(data: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the mean, or of the ratio of column sums.

    B. Efron, R. Tibshirani, An Introduction to the Bootstrap, chapter 13. Requests of one user, one after another, are
    taken as independent; that is the case it is used for.
    """
    if len(data) < 2:  # noqa: PLR2004 nothing to resample
        return None
    from scipy.stats import bootstrap

    columns = (data,) if data.ndim == 1 else (data[:, 0], data[:, 1])
    result = bootstrap(
        columns,
        _mean if data.ndim == 1 else _ratio,
        paired=data.ndim > 1,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    low, high = result.confidence_interval
    return float(low), float(high)


def _mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(np.mean(values, axis=axis))


def _ratio(top: NDArray[np.float64], bottom: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(np.sum(top, axis=axis) / np.sum(bottom, axis=axis))

"""95 % intervals for values that follow one another: requests that share an engine are not independent.

Near saturation an interval that takes them as independent holds the truth a few times in a hundred, not 95. These are
refused where the values cannot carry them. ``scripts/bench coverage`` measures how often they hold the truth, and where
they do not: a run of a few relaxation times of its queue may show no queue at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.few_answers import PACE_ERROR, around
from loadgen.measure.quantiles import student
from loadgen.measure.statistics import (
    QUANTILES,
    SMALLEST_MEDIAN,
    Distribution,
    Estimate,
    Z,
    fewest_values,
    index_of,
    nth,
    smallest_sample,
)

SMALLEST_EFFECTIVE = 250
"""Fewest effectively independent values for the interval of a quantile by sections, and for a p95 or p99. With fewer,
ten sections of an M/G/32 queue at 0.8 and 0.9 of its capacity hold the p90 of its waits in 48 to 90 of 100 runs, and
their p95 in 47 to 89."""

BATCHES = 10
"""Batches of a mean, sections of a quantile: fewer make Student's t wide, more are too short to be independent."""

BEYOND = BATCHES
"""Fewest effectively independent values beyond a quantile for its interval: one for each section. Values beyond the p99
come in clusters, one for each time the queue was long; where a run has seen few such times, most runs have seen too few
of them and their p99 is too low."""

SMALLEST_MEAN = 3 * BATCHES
"""Fewest effectively independent values for the interval of a mean: three in each batch. With two, 5.5 % of the
intervals of a closed loop's throughput were printed and wrong, with three 1.7 %."""

SMALLEST_MEAN_OF_LATENCY = 100
"""The same for values that are as skewed as latencies."""

CORRELATED = 0.2
"""Correlation of neighbouring batches up to which they are taken as independent: then the interval is at most a fifth
too narrow."""

ENOUGH_TO_STOP = 6 * BATCHES
"""Fewest effectively independent values for an end by precision: some 50 to 60 round trips, as users keep one rhythm
for about one of them. With 40, intervals at the end hold the truth in 89 of 100 runs where service times vary much."""

LOOKS_INDEPENDENT = 0.5
"""Share of their number that the effective size of independent values falls short of in one case of twenty."""

_WORTH = 3
"""Effectively independent values that count as one for a median where neighbours are alike. Short series show too
little of that: with each of them counted, medians of the round trips of 64 users above capacity hold the truth in 71 to
92 of 100 windows of three to five round trips, with a third, and what a pace may wander, in 85 and more."""

_CONFIDENCE = 0.95
_OUTSIDE = (1 - _CONFIDENCE) / 2
_TAIL = 0.95
"""Quantiles from here on are not told at all below SMALLEST_EFFECTIVE."""
_LONGEST_AT_ONCE, _MOST_LAGS = 1 << 20, 1 << 14
"""Values whose autocovariances are computed at all lags, and lags of a longer series."""
_SCALE, _FEWEST = 4, 32
"""Values are put together by so many, again and again, as long as so many are left."""

Values = NDArray[np.float64] | Sequence[float]
_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QuantileEstimate:
    """A quantile; without a value where it is not resolvable, without an interval where that is not."""

    value: float | None
    ci95: tuple[float, float] | None
    n: int
    n_eff: float
    """For this quantile: the fewest of all values, and of whether each lies beyond it."""


def effective_sample_size(values: Values | NDArray[np.bool_]) -> float:
    """Return n / (1 + 2 sum of autocorrelations), at most n, for values in the order in which they came about.

    Sums of autocorrelations as C. Geyer, Practical Markov Chain Monte Carlo, 1992, 3.3 (initial monotone sequence), of
    the values and again of the means of 4, 16, ... of them; the smallest result counts. A slow wave beneath much
    independent noise, such as the queue in end-to-end times, shows in the means only. Of independent values the result
    is about 0.85 n, in one case of twenty 0.5 n.
    """
    n = len(values)
    # Of a long series of yes and no, floats would take eight times as much.
    x = np.asarray(values, dtype=float if n <= _LONGEST_AT_ONCE else None)
    if n < 4 or _constant(x):  # noqa: PLR2004 two pairs of lags
        return float(n)
    variance, smallest = _variance(x), float(n)
    while True:
        smallest = min(smallest, variance / _variance(x) * len(x) / _correlation_time(x))
        shorter = len(x) // _SCALE
        if shorter < _FEWEST:
            return smallest
        x = x[: shorter * _SCALE].reshape(shorter, _SCALE).mean(axis=1)
        if _constant(x):
            return smallest


def in_order(independent: Estimate, values: Values, scale: float = 1.0) -> Estimate:
    """Return an estimate of independent values with the interval for values in the order in which they came about.

    The estimate is ``scale`` times the mean of the values, but for a constant. Where neighbours are alike, as of an
    engine whose speed wanders, the interval is that by batch means, or refused as that is. It is never narrower than
    the first one, widened by the effective size.
    """
    if independent.ci95 is None:
        return independent
    x = np.asarray(values, dtype=float)
    n_eff = effective_sample_size(x)
    low, high = ((end - independent.value) * math.sqrt(len(x) / n_eff) for end in independent.ci95)
    if n_eff < LOOKS_INDEPENDENT * len(x):
        batches = _mean(x, n_eff, SMALLEST_MEAN)
        if batches.ci95 is None:
            return replace(independent, ci95=None)
        low = min(low, scale * (batches.ci95[0] - batches.value))
        high = max(high, scale * (batches.ci95[1] - batches.value))
    return replace(independent, ci95=(independent.value + low, independent.value + high))


def mean_of_series(values: Values) -> Estimate | None:
    """Return the mean of an equally spaced series, with its interval by ten batch means; None of nothing.

    The interval is refused where too few values are effectively independent, and where no length of batches, down to
    ten of them, leaves neighbours without correlation.
    """
    x = np.asarray(values, dtype=float)
    return _mean(x, effective_sample_size(x), SMALLEST_MEAN) if len(x) else None


def may_be_narrow(values: Values, precision: float) -> bool:
    """Tell at little cost whether :func:`narrow_enough` is worth asking: whether ten batch means scatter so little."""
    x = np.asarray(values, dtype=float)
    if len(x) < BATCHES:
        return False
    return float(_batch_means(x, BATCHES).std(ddof=1)) <= math.sqrt(BATCHES) * precision * float(x.mean())


def narrow_enough(values: Values, precision: float) -> bool:
    """Whether the mean of a series is known to this share of itself, so that a measurement may end.

    Who looks again and again until an interval is narrow finds one that is so by chance: at the first, 76 to 94 of 100
    hold the truth (closed loops of 16 to 512 users, looked at once a round trip). So it has to be narrow by ten batches
    and by twenty, and by as much as their length allows in the first and in the last three quarters alone; and more
    values have to be effectively independent. Then 89 to 98 hold it.
    """
    x = np.asarray(values, dtype=float)
    if effective_sample_size(x) < ENOUGH_TO_STOP or not _falls_into_batches(x):
        return False
    quarter, allowed = len(x) // 4, precision * float(x.mean())
    looks = ((x, BATCHES), (x, 2 * BATCHES), (x[quarter:], BATCHES), (x[: len(x) - quarter], BATCHES))
    return allowed > 0 and all(
        _half_width(part, batches) <= allowed * math.sqrt(len(x) / len(part)) for part, batches in looks
    )


def quantile_of_series(values: Values, quantile: float) -> QuantileEstimate:
    """Return a quantile of values in the order in which they came about, with its interval.

    S. Asmussen, P. Glynn, Stochastic Simulation, 2007, III.5: the quantile of each of ten equal sections, around that
    of all. It reaches at least as far as the quantiles q -+ 1.96 sqrt(q (1 - q) / n_eff) do (R. Woodruff, 1952): where
    the queue was hardly ever long, sections are alike by chance. The value, ``sorted[floor(n q)]``, is refused where
    fewer values are effectively independent than the quantile needs. A median only needs two values; of fewer values
    than sections need, its interval is that by ranks, and at least 10 % wide to both sides.
    """
    x = np.asarray(values, dtype=float)
    return _quantile(x, np.sort(x), effective_sample_size(x), quantile)


def share(good: float, n: int, n_eff: float) -> Estimate:
    """Return good / n with the interval of E. B. Wilson, 1927, for so many effectively independent values."""
    p, m = good / n, max(n_eff, 1.0)
    centre = (p + Z**2 / (2 * m)) / (1 + Z**2 / m)
    half = Z / (1 + Z**2 / m) * math.sqrt(p * (1 - p) / m + Z**2 / (4 * m * m))
    return Estimate(p, (max(0.0, centre - half), min(1.0, centre + half)), n)


def distribution_of_series(values: Values) -> Distribution:
    """Return n, effective n, mean, the percentiles that n values support, and their intervals.

    ``not_resolvable`` names the other percentiles, ``needs`` maps each of them to the fewest effectively independent
    values for it.
    """
    x = np.asarray(values, dtype=float)
    if not len(x):
        return Distribution(n=0)
    ordered, n_eff = np.sort(x), effective_sample_size(x)
    mean = _mean(x, n_eff, SMALLEST_MEAN_OF_LATENCY)
    known: dict[str, Any] = {}
    intervals = {} if mean.ci95 is None else {"mean": mean.ci95}
    needs: dict[str, int] = {}
    for name, quantile in QUANTILES.items():
        estimate = _quantile(x, ordered, n_eff, quantile)
        if estimate.value is None:
            needs[name] = _effective_needed(quantile)
        else:
            known[name] = estimate.value
        if estimate.ci95 is not None:
            intervals[name] = estimate.ci95
    return Distribution(
        n=len(x), n_eff=n_eff, mean=mean.value, **known, ci95=intervals, not_resolvable=list(needs), needs=needs
    )


def _effective_needed(quantile: float) -> int:
    """Return the smallest effective sample size for which a quantile of a series is reported."""
    return max(fewest_values(quantile), SMALLEST_EFFECTIVE if quantile >= _TAIL else 0)


def _quantile(x: _Array, ordered: _Array, n_eff: float, quantile: float) -> QuantileEstimate:
    n, needed = len(x), _effective_needed(quantile)
    is_median = needed == SMALLEST_MEDIAN
    if n < needed or (n_eff < needed and not is_median):
        return QuantileEstimate(None, None, n, n_eff)
    value = float(ordered[index_of(n, quantile)])
    n_eff = min(n_eff, effective_sample_size(x > value))
    if n_eff < needed and not is_median:
        return QuantileEstimate(None, None, n, n_eff)
    if n_eff < max(SMALLEST_EFFECTIVE, BEYOND / (1 - quantile)):
        return QuantileEstimate(value, _of_few(value, ordered, n_eff) if is_median else None, n, n_eff)
    sections = np.array([nth(part, index_of(len(part), quantile)) for part in np.array_split(x, BATCHES)])
    low, high = _around(value, sections)
    error = Z * math.sqrt(quantile * (1 - quantile) / n_eff)
    below, above = (float(ordered[index_of(n, at)]) for at in (quantile - error, quantile + error))
    return QuantileEstimate(value, (min(_possible(x, low), below), max(high, above)), n, n_eff)


def _of_few(value: float, ordered: _Array, n_eff: float) -> tuple[float, float] | None:
    """Return the interval of a median by ranks, which includes what an engine's pace may wander unseen."""
    ranks = _around_median(ordered, n_eff)
    if ranks is None or value <= 0:
        return ranks
    low, high = around(value, PACE_ERROR)
    return min(ranks[0], low), max(ranks[1], high)


def _around_median(ordered: _Array, n_eff: float) -> tuple[float, float] | None:
    """Return the interval of a median by ranks: from the k-th smallest to the k-th largest of m independent values.

    H. David, Order Statistics, 1981, 2.5: k is the largest for which at least k values lie on either side of the true
    median in 97.5 % of all samples. Of dependent values, worth m independent ones, it takes as large a share. None of
    fewer than six.
    """
    dependent = n_eff < LOOKS_INDEPENDENT * len(ordered)
    m = int(n_eff / _WORTH if dependent else n_eff)
    if m < smallest_sample(QUANTILES["p50"]):
        return None
    outside, k = 0, 0
    while (outside := outside + math.comb(m, k)) <= _OUTSIDE * 2**m:
        k += 1
    n = len(ordered)
    rank = (k - 1) * n // m
    return float(ordered[rank]), float(ordered[n - 1 - rank])


def _mean(x: _Array, n_eff: float, needed: float) -> Estimate:
    value = float(x.mean())
    if n_eff < needed or not _falls_into_batches(x):
        return Estimate(value, None, len(x))
    return Estimate(value, _around_mean(x, n_eff, BATCHES), len(x))


def _batch_means(x: _Array, batches: int) -> _Array:
    """Return the means of contiguous parts, equal in length but for one value."""
    return np.array([part.mean() for part in np.array_split(x, batches)])


def _around_mean(x: _Array, n_eff: float, batches: int) -> tuple[float, float]:
    """Return the interval by batch means, widened where the effective size says that they scatter too little.

    Batches of a few round trips are correlated, and ten of them are alike by chance in some runs: without this, 82 to
    92 of 100 intervals of a closed loop's throughput over 20 and 50 round trips hold the truth, with it 84 to 95.
    """
    value, means = float(x.mean()), _batch_means(x, batches)
    low, high = _around(value, means)
    seen, expected = (
        math.sqrt(float(((means - value) ** 2).sum()) / (batches - 1) / batches),
        math.sqrt(_variance(x) / n_eff),
    )
    factor = max(1.0, expected / seen) if seen > 0 else 1.0
    return _possible(x, value - (value - low) * factor), value + (high - value) * factor


def _possible(x: _Array, low: float) -> float:
    """Return the lower end of an interval for what is never below 0, if no value is: no such truth is lost by that."""
    return max(low, 0.0) if float(x.min()) >= 0 else low


def _half_width(x: _Array, batches: int) -> float:
    low, high = _around_mean(x, effective_sample_size(x), batches)
    return (high - low) / 2


def _falls_into_batches(x: _Array) -> bool:
    """Whether some length of batches, doubled as long as ten are left, leaves neighbours without correlation."""
    while len(x) >= BATCHES:
        if _constant(x) or _lag_one(x) < CORRELATED:
            return True
        x = x[: len(x) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return False


def _lag_one(values: _Array) -> float:
    centred = values - values.mean()
    return float(centred[:-1] @ centred[1:]) / float(centred @ centred)


def _constant(x: _Array) -> bool:
    """Whether nothing is left of a series without its mean but rounding."""
    low, high = float(x.min()), float(x.max())
    return high - low <= 1e-12 * max(abs(low), abs(high))


def _variance(x: _Array) -> float:
    """Return the variance; of a long series block by block, as it takes a copy of each."""
    if len(x) <= _LONGEST_AT_ONCE:
        return float(x.var())
    mean = x.mean()
    blocks = (x[start : start + _LONGEST_AT_ONCE] - mean for start in range(0, len(x), _LONGEST_AT_ONCE))
    return sum(float(block @ block) for block in blocks) / len(x)


def _correlation_time(x: _Array) -> float:
    """Return 1 + 2 sum of autocorrelations: pairs of lags as long as positive, each at most the one before."""
    covariance = _covariances(x)
    pairs = (covariance / covariance[0]).reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    kept = np.minimum.accumulate(pairs[: negative[0] if len(negative) else None])
    return max(2 * float(kept.sum()) - 1, 1 / len(x))


def _covariances(x: _Array) -> _Array:
    """Return the autocovariances of a series at an even number of lags; of a long series at the first lags only.

    Memory and time of a long one grow as its length. Slower waves than these lags show in the means of its values.
    """
    n, mean = len(x), x.mean()
    if n <= _LONGEST_AT_ONCE:
        size = 1 << (2 * n - 1).bit_length()  # lags do not wrap around, and a power of two is fast
        spectrum = np.fft.rfft(x - mean, size)
        return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[: 2 * (n // 2)]
    size = 2 * _MOST_LAGS
    products = np.zeros(_MOST_LAGS + 1, dtype=complex)
    for start in range(0, n, _MOST_LAGS):
        reach = x[start : start + size] - mean
        products += np.fft.rfft(reach[:_MOST_LAGS], size).conj() * np.fft.rfft(reach, size)
    return np.fft.irfft(products, size)[:_MOST_LAGS]


def _around(value: float, parts: _Array) -> tuple[float, float]:
    """Return Student's interval around a value whose parts scatter so, farther to the side to which they are skewed.

    R. Willink, A confidence interval and test for the mean of an asymmetric distribution, Communications in Statistics
    34, 2005, as N-Skart uses it for batch means. A queue is seldom long: most runs see too little of it, so that
    without this most intervals that miss lie below the truth.
    """
    k = len(parts)
    error = math.sqrt(float(((parts - value) ** 2).sum()) / (k - 1) / k)
    centred = parts - parts.mean()
    spread = math.sqrt(float(centred @ centred) / (k - 1))
    skewness = k / ((k - 1) * (k - 2)) * float(((centred / spread) ** 3).sum()) if spread > 0 else 0.0
    a, r = skewness / (6 * math.sqrt(k)), student(k - 1, (1 + _CONFIDENCE) / 2)
    return value - _straightened(r, a) * error, value - _straightened(-r, a) * error


def _straightened(r: float, a: float) -> float:
    """Return the root of Hall's cubic: x + a (2 x^2 + 1) + 4/3 a^2 x^3 = r, with a = skewness / (6 sqrt k)."""
    return r if abs(a) < 1e-4 else (float(np.cbrt(1 + 6 * a * (r - a))) - 1) / (2 * a)  # noqa: PLR2004 no skew

"""Whether, and from when on, a series no longer shows that the load has just begun."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.intervals import effective_sample_size

Series = NDArray[np.float64]

BATCH = 5
"""Values that MSER looks at together."""

SMALLEST_SERIES = 50
"""Ten batches of five: fewer show no beginning."""

DRIFT_LIMIT = 0.02
"""A change over the whole window of less than this share of the mean is none."""

SMALL_DIFFERENCE = 0.01
"""A difference between beginning and end of less than this share of the mean is none, however certain it is."""

GROWTH = 0.1
"""Growth over the window, as a share of the mean, from which a queue is said to grow without end: five times the change
that counts as none."""

CHANCE = 0.05
"""How often series that are steady may be called unsteady, all of them together, each looked at in two ways: at two
standard errors for each, four independent series would be in up to 1 - 0.95^8, a third of the runs."""

_PARTS = 10
"""Means in a row through which a slope is laid: with fewer Student's t is wide, more are correlated."""
_FIRST, _LAST = 0.2, 0.5
"""Shares of a series that are compared as its beginning and its end; J. Geweke, 1992, has 0.1 and 0.5."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What was found."""

    cut: int | None
    """From where on values count; None where no beginning could be told."""
    unsteady: str | None
    """Why what counts is not steady, None where it is."""


def steady(series: Mapping[str, Series]) -> Steadiness:
    """Look at series over the same equally spaced times; the last one to become steady decides where all begin.

    nan stands where a bin has no value; a series of nothing else is left out.
    """
    known = {name: _filled(values) for name, values in series.items() if not np.isnan(values).all()}
    shortest = min((len(values) for values in known.values()), default=0)
    if shortest < SMALLEST_SERIES:
        return Steadiness(None, f"too short to tell: {shortest} points")
    chance = CHANCE / len(known)
    cuts = {name: mser5(values) for name, values in known.items()}
    for name, values in known.items():
        if cuts[name] is None and (found := drift(values, chance)):
            return Steadiness(None, f"{name} {found}, and still changed in the second half")
    cut = max(c or 0 for c in cuts.values())
    for name, values in known.items():
        if found := drift(values[cut:], chance):
            return Steadiness(cut, f"{name} {found}")
    return Steadiness(cut, None)


def mser5(values: Series) -> int | None:
    """Return where a series begins to be worth keeping; None where that is not within its first half.

    K. P. White, An effective truncation heuristic for bias reduction in simulation output, 1997 (MSER-5): the cut that
    makes the standard error of the mean of what is left the smallest.
    """
    number = len(values) // BATCH
    if number < 2:  # noqa: PLR2004 nothing to cut
        return None
    batches = values[: number * BATCH].reshape(number, BATCH).mean(axis=1)
    batches = batches - batches.mean()  # squares of large numbers would leave rounding only
    left = np.arange(number, 0, -1)
    sums = np.cumsum(batches[::-1])[::-1]
    squares = np.cumsum((batches**2)[::-1])[::-1]
    errors = (squares - sums**2 / left) / left**2
    if errors[0] <= (1e-9 * np.abs(values).max()) ** 2:
        return 0
    # The last few batches are always alike by chance.
    cut = int(np.argmin(errors[: max(1, number - BATCH)]))
    return None if cut > number // 2 else cut * BATCH


def drift(values: Series, chance: float = CHANCE) -> str | None:
    """Say how a series drifts, None where it does not: by its slope, and by its beginning against its end.

    ``chance``: how often it may say so of one that does not.
    """
    mean = float(values.mean())
    if not mean:
        return None
    change, error, quantile = _change(values, chance / 2)
    if abs(change) >= DRIFT_LIMIT * abs(mean) and abs(change) > quantile * error:
        return f"changed by {change / mean:+.0%} over the window"
    first, last = values[: int(len(values) * _FIRST)], values[int(len(values) * (1 - _LAST)) :]
    apart = float(last.mean() - first.mean())
    if abs(apart) >= SMALL_DIFFERENCE * abs(mean) and abs(apart) > _allowed(first, last, chance / 2):
        return f"was {apart / mean:+.0%} at its end against its beginning"
    return None


def grows(values: Series) -> bool:
    """Whether a series grows without end, as the requests in flight of an engine that is asked for too much."""
    if len(values) < SMALLEST_SERIES:
        return False
    change, error, quantile = _change(values, CHANCE)
    return change > quantile * error and change > GROWTH * abs(float(values.mean()))


def _filled(values: Series) -> Series:
    """Return a series with nan replaced by what lies on the line between its neighbours."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    at = np.arange(len(values))
    return np.interp(at, at[~missing], values[~missing])


def _change(values: Series, chance: float) -> tuple[float, float, float]:
    """Return the change of a straight line over the series, its standard error, and the quantile of Student's t.

    Least squares through the means of ten equal parts, which are as good as independent where the series is long.
    """
    from scipy.special import stdtrit

    means = np.array([part.mean() for part in np.array_split(values, _PARTS)])
    at = np.arange(_PARTS) - (_PARTS - 1) / 2
    slope = float(at @ means / (at @ at))
    rest = means - means.mean() - slope * at
    error = float(np.sqrt(rest @ rest / (_PARTS - 2) / (at @ at)))
    return slope * _PARTS, error * _PARTS, float(stdtrit(_PARTS - 2, 1 - chance / 2))


def _allowed(first: Series, last: Series, chance: float) -> float:
    """Return the difference of two means that chance explains: two standard errors, or more where ``chance`` is small.

    Both parts together tell how much one value scatters, and for how many of them one stands that is independent.
    """
    from scipy.special import ndtri

    total = len(first) + len(last)
    long_run = sum(len(p) * float(p.var()) * len(p) / effective_sample_size(p) for p in (first, last)) / total
    return float(ndtri(1 - chance / 2) * np.sqrt(long_run * (1 / len(first) + 1 / len(last))))

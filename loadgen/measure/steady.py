"""Whether, and from when on, a series no longer shows that the load has just begun."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.intervals import effective_sample_size
from loadgen.measure.quantiles import normal, student

Series = NDArray[np.float64]

BATCH = 5
"""Values that MSER looks at together."""

SMALLEST_SERIES = 50
"""Ten batches of five: fewer show no beginning."""

ROUNDING = 1e-12
"""Share of its values by which a series may vary that does not change."""

DRIFT_LIMIT = 0.02
"""A change over the whole window of less than this share of the mean is none."""

SMALL_DIFFERENCE = 0.01
"""A difference between beginning and end of less than this share of the mean is none, however certain it is."""

SMALLEST_EFFECTIVE = 20
"""Minimum effective sample size for a drift test. Below it the test raises false alarms: for 26 to 31 % of steady
series that are 5 correlation times long, and for 16 % of those that are 10 long."""

CHANCE = 0.02
"""How often series that are steady may be called unsteady, all of them together, each looked at in two ways. Tests on
means that are still a little correlated do so two to three times as often as they should, and all twenty checks of a
run together may find something in 5 of 100 in which nothing is wrong."""

SMALLEST_REST = 2 * SMALLEST_EFFECTIVE
"""Minimum effective sample size of residuals. It is larger because a fitted line or jump removes slow changes."""

_PARTS = 10
"""Means in a row through which a slope is laid: with fewer Student's t is wide, more are correlated."""
_FIRST, _LAST = 0.2, 0.5
"""Shares of a series that are compared as its beginning and its end; J. Geweke, 1992, has 0.1 and 0.5."""


_OBVIOUS = 6.0
"""A line or jump is reported even in a short series if it is this many standard deviations of the residuals. One in 100
steady series of 3 or more correlation times exceeds that."""
_BLOCKS, _ONE_WAY = 21, 18
"""A trend of any shape: at least 18 of the 20 differences between 21 block means have the same sign. That happens in 4
of 10,000 random walks, and steady series wander less than those."""


@dataclass(frozen=True, slots=True)
class Steadiness:
    """Whether series are steady."""

    cut: int | None
    """Index from which values count; None where the warm-up transient has no end in the first half."""
    unsteady: str | None
    """Why the rest is not steady; None where it is, or where it is too short to tell."""
    undecided: str | None = None
    """Why nobody can tell; None where somebody can."""


def steady(series: Mapping[str, Series]) -> Steadiness:
    """Look at series over the same equally spaced times; the last one to become steady decides where all begin.

    nan stands where a bin has no value; a series of nothing else is left out.
    """
    known = {name: _filled(values) for name, values in series.items() if not np.isnan(values).all()}
    shortest = min((len(values) for values in known.values()), default=0)
    if shortest < SMALLEST_SERIES:
        return Steadiness(None, None, f"too short to tell: {shortest} points")
    chance = CHANCE / len(known)
    cuts = {name: mser5(values) for name, values in known.items()}
    # Each series that has no cut is judged as a whole, and all of them from the common cut on.
    cut = max(c or 0 for c in cuts.values())
    looks = [
        (name, values, " and still changed in the second half") for name, values in known.items() if cuts[name] is None
    ]
    looks += [(name, values[cut:], "") for name, values in known.items() if cut or cuts[name] is not None]
    undecided = None
    for name, values, more in looks:
        long_enough = decidable(values)
        if found := drift(values, chance) if long_enough else obvious_drift(values):
            return Steadiness(None if more else cut, f"{name} {found}{',' if more else ''}{more}")
        if not long_enough:
            undecided = undecided or f"too short to tell: {name} changed too slowly for its length"
    return Steadiness(cut, None, undecided)


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
    """Describe how a series that is :func:`decidable` drifts; None if it does not.

    ``chance``: probability of a false alarm for a steady series.
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


def decidable(values: Series) -> bool:
    """Whether a series is long enough, by its own correlation, to tell a drift from chance.

    The change that is looked for would itself pass for correlation. So the effective size may also be that of what is
    left without the best line, or without the best jump.
    """
    if float(np.ptp(values)) <= ROUNDING * float(np.abs(values).max()):
        return True
    if effective_sample_size(values) >= SMALLEST_EFFECTIVE:
        return True
    return any(effective_sample_size(values - change) >= SMALLEST_REST for change in _changes(values))


def obvious_drift(values: Series) -> str | None:
    """Describe a change that no correlation explains: far larger than the rest of the series, or always one way."""
    mean = float(values.mean())
    if not mean:
        return None
    steps = np.diff([block.mean() for block in np.array_split(values, _BLOCKS)])
    found = [
        float(change[-1] - change[0])
        for change in _changes(values)
        if abs(change[-1] - change[0]) >= _OBVIOUS * float((values - change).std())
    ]
    if max((steps > 0).sum(), (steps < 0).sum()) >= _ONE_WAY:
        found.append(float(steps.sum()))
    large = [by for by in found if abs(by) >= DRIFT_LIMIT * abs(mean)]
    return f"changed by {large[0] / mean:+.0%} over the window" if large else None


def _changes(values: Series) -> Iterator[Series]:
    """Yield the straight line, then the jump, that fit a series best by least squares."""
    n = len(values)
    centred, at = values - values.mean(), np.arange(n) - (n - 1) / 2
    yield np.asarray(at * float(at @ centred / (at @ at)))
    before = np.arange(1, n)
    sums = np.cumsum(centred)[:-1]
    jump = int(np.argmax(sums**2 / (before * (n - before)))) + 1
    yield np.repeat([centred[:jump].mean(), centred[jump:].mean()], [jump, n - jump])


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
    means = np.array([part.mean() for part in np.array_split(values, _PARTS)])
    at = np.arange(_PARTS) - (_PARTS - 1) / 2
    slope = float(at @ means / (at @ at))
    rest = means - means.mean() - slope * at
    error = float(np.sqrt(rest @ rest / (_PARTS - 2) / (at @ at)))
    return slope * _PARTS, error * _PARTS, student(_PARTS - 2, 1 - chance / 2)


def _allowed(first: Series, last: Series, chance: float) -> float:
    """Return the difference of two means that chance explains: two standard errors, or more where ``chance`` is small.

    Both parts together tell how much one value scatters, and for how many of them one stands that is independent.
    """
    total = len(first) + len(last)
    long_run = sum(len(p) * float(p.var()) * len(p) / effective_sample_size(p) for p in (first, last)) / total
    return float(normal(1 - chance / 2) * np.sqrt(long_run * (1 / len(first) + 1 / len(last))))

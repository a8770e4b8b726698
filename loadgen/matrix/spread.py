"""Repeats of a run put together: one estimate, with the widest interval that the runs give reason for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from loadgen.measure.quantiles import student
from loadgen.results.summary_schema import Figure

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure of one or more runs, for each of which the engine was started anew."""

    value: float
    """Mean over runs."""
    ci95: Interval | None
    between: bool = False
    """Whether the interval is that between runs; else it is within them."""
    runs: int = 1
    cv: float | None = None
    """Standard deviation over mean of the runs; None of a single one."""
    lowest: float
    highest: float


def over_runs(found: Iterable[Figure | None], scale: float = 1.0) -> Spread | None:
    """Return the figure of all runs that have it, each times ``scale``; None where none has."""
    known = [(figure, figure.value) for figure in found if figure is not None and figure.value is not None]
    if not known:
        return None
    values = [value * scale for _, value in known]
    mean = fmean(values)
    inner = [
        (at - ci[0] * scale, ci[1] * scale - at)
        for (figure, _), at in zip(known, values, strict=True)
        if (ci := figure.ci95) is not None
    ]
    # Ends apart, as a bootstrap's interval need not lie evenly around its value.
    within = (mean - fmean(low for low, _ in inner), mean + fmean(high for _, high in inner)) if inner else None
    outer = _between(values)
    between = outer is not None and (within is None or _width(outer) > _width(within))
    return Spread(
        value=mean,
        ci95=outer if between else within,
        between=between,
        runs=len(values),
        cv=stdev(values) / mean if len(values) > 1 and mean else None,
        lowest=min(values),
        highest=max(values),
    )


def single(value: float | None) -> Figure:
    """Return a value without an interval as a figure."""
    return Figure(value=value, ci95=None, n=1)


def overlap(one: Interval, other: Interval) -> bool:
    """Whether two intervals share a value."""
    return one[0] <= other[1] and other[0] <= one[1]


def _between(values: list[float]) -> Interval | None:
    """Return Student's 95 % interval of the mean; None of a single value."""
    if len(values) < 2:  # noqa: PLR2004 nothing scatters
        return None
    half = student(len(values) - 1, 0.975) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half


def _width(interval: Interval) -> float:
    return interval[1] - interval[0]

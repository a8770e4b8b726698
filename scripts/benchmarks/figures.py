"""Figures: what a claim measured, one mapping of named numbers for each round of each case."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadgen.measure.statistics import SMALLEST_SAMPLE, percentile

Figures = Mapping[str, float]
"""By name, with the unit in the name. What was not measured is not in it."""


@dataclass(slots=True)
class Case:
    """One thing that was measured: a column of the table."""

    name: str
    rounds: list[Figures] = field(default_factory=list)

    def values(self, figure: str) -> list[float]:
        """Return one value for each round that has the figure."""
        return [figures[figure] for figures in self.rounds if figure in figures]


@dataclass(slots=True)
class Section:
    """All that a claim's command found."""

    title: str
    cases: list[Case]
    notes: list[str] = field(default_factory=list)
    """What a reader has to know: definitions, failures, findings in words."""
    part: str = ""
    """Which part of the claim this is, where it is not all of it: each is saved beside the others."""

    @property
    def names(self) -> list[str]:
        """Names of the figures, in the order in which they were first measured."""
        return list(dict.fromkeys(name for case in self.cases for figures in case.rounds for name in figures))


def spread(name: str, values: Sequence[float], unit: str = "ms") -> dict[str, float]:
    """Return median, p99 and maximum, each where the sample supports it."""
    found = {
        f"{name} {which}, {unit}": percentile(values, quantile)
        for which, quantile in (("p50", 0.5), ("p99", 0.99))
        if len(values) >= SMALLEST_SAMPLE[which]
    }
    return found | ({f"{name} max, {unit}": max(values)} if values else {})


def p99(name: str, values: Sequence[float], unit: str = "ms") -> dict[str, float]:
    """Return the p99 of what has no sign, where the sample supports it."""
    if len(values) < SMALLEST_SAMPLE["p99"]:
        return {}
    return {f"{name} p99, {unit}": percentile([abs(value) for value in values], 0.99)}


def median_and_range(values: Sequence[float]) -> str:
    """Return them as text; empty for none."""
    if not values:
        return ""
    middle = short(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({short(min(values))} to {short(max(values))})"


def short(value: float) -> str:
    """Return a number in three digits, never in powers of ten."""
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004 three digits before the point
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.5f}"  # noqa: PLR2004

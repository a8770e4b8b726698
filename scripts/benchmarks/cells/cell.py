"""One figure of one server under one load, over many runs: how often it has an interval, and a right one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.figures import Case, Figures

FEWEST = 20
"""Intervals from which their share that holds the truth is told, and values from which their spread is."""

_Z = 1.96

Interval = Sequence[float] | None


class Cell:
    """Counts what became of the figure in each run."""

    def __init__(self, no_matter: float = 0.0) -> None:
        """``no_matter``: by so much an interval may miss the truth."""
        self._no_matter = no_matter
        self._runs = 0
        self._values: list[float] = []
        """By the truth."""
        self._half_widths: list[float] = []
        """Likewise."""
        self._held: list[bool] = []
        self._more: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, value: float | None, ci95: Interval, truth: float, **more: float) -> None:
        """Count one run; ``more``: other things of it, of which the mean is told, booleans in %."""
        self._runs += 1
        if value is not None:
            self._values.append(value / truth)
        if ci95 is not None:
            low, high = ci95
            self._held.append(low - self._no_matter <= truth <= high + self._no_matter)
            self._half_widths.append((high - low) / 2 / truth)
        for name, what in more.items():
            self._more[name.replace("_", " ")].append(100 * what if isinstance(what, bool) else what)

    @property
    def printed(self) -> int:
        """How many runs had an interval."""
        return len(self._held)

    @property
    def held(self) -> int:
        """How many intervals held the truth."""
        return sum(self._held)

    def holds_less_than(self, share: float, chance: float) -> bool:
        """Tell whether intervals hold the truth more seldom: whether, if not, so few would in less than this chance."""
        from scipy.special import bdtr  # the tests import this module, and hardly any needs it

        return self.printed > 0 and float(bdtr(self.held, self.printed, share)) < chance

    def figures(self) -> Figures:
        """Return all that is known, by the name of a column."""
        found = {
            "no value, %": 100 * (1 - len(self._values) / self._runs),
            "no interval, %": 100 * (1 - self.printed / self._runs),
            "intervals": float(self.printed),
        }
        if self.printed >= FEWEST:
            found["hold, %"] = 100 * self.held / self.printed
        if len(self._values) >= FEWEST:
            found["bias, %"] = 100 * (float(np.mean(self._values)) - 1)
        if len(self._values) >= FEWEST and self.printed and (error := _Z * float(np.std(self._values))) > 0:
            found["width / oracle"] = float(np.median(self._half_widths)) / error
        return found | {name: float(np.mean(values)) for name, values in self._more.items()}


def columns(found: Mapping[str, Figures]) -> list[Case]:
    """Return a table of cells: a line for each, a column for each thing that is known of them."""
    names: Iterable[str] = dict.fromkeys(name for figures in found.values() for name in figures)
    return [Case(name, [{row: figures[name] for row, figures in found.items() if name in figures}]) for name in names]

"""Whether the requests of one user, one after another, became faster or slower in the course of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 10
"""Fewest values in which a change is looked for."""

MOST = 500
"""More values are put together in as many groups: a thousand permutations of them take 30 ms."""

PERMUTATIONS, SEED = 999, 0
CHANCE = 0.01
"""How often a change is found in values that are exchangeable: one of twenty checks, which together have 5 %."""

SMALLEST_CHANGE = 0.05
"""A change by a smaller share than this is none."""


@dataclass(frozen=True, slots=True)
class Change:
    """Where a series changed most."""

    before: int
    """Number of values before it."""
    mean_before: float
    mean_after: float


def change(values: Sequence[float] | NDArray[np.float64]) -> Change | None:
    """Return the change of level that chance does not explain, None if there is none, or too few values.

    The largest standardised difference of the means before and after one point, against those of permutations of the
    same values (A. N. Pettitt, A non-parametric approach to the change-point problem, 1979, has its rank form).
    """
    x = np.asarray(values, dtype=float)
    if len(x) < FEWEST:
        return None
    together = -(-len(x) // MOST)
    groups = x[: len(x) // together * together].reshape(-1, together).mean(axis=1)
    rng = np.random.default_rng(SEED)
    permuted = rng.permuted(np.tile(groups, (PERMUTATIONS, 1)), axis=1)
    largest = float(_differences(groups[np.newaxis]).max())
    if (1 + int((_differences(permuted).max(axis=1) >= largest).sum())) / (PERMUTATIONS + 1) > CHANCE:
        return None
    before = (int(np.argmax(_differences(groups[np.newaxis])[0])) + 1) * together
    found = Change(before, float(x[:before].mean()), float(x[before:].mean()))
    return found if abs(found.mean_after - found.mean_before) >= SMALLEST_CHANGE * abs(float(x.mean())) else None


def _differences(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each row and each point in it, the squared difference of means, by what chance makes of it."""
    n = rows.shape[1]
    before = np.arange(1, n)
    sums = np.cumsum(rows - rows.mean(axis=1, keepdims=True), axis=1)[:, :-1]
    return np.asarray(sums**2 / (before * (n - before)))

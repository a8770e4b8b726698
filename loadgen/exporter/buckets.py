"""Which bounds are exported: every fifth of those that a histogram counts by, so that each count is exact.

A quantile that Prometheus interpolates between two of them is at most RATIO - 1, 11 %, off, and mostly much less.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

from loadgen.measure.histogram import GROWTH, Histogram

EVERY = 5
RATIO = GROWTH**EVERY
"""Of one bound to the one before it."""

_COARSE = 3

_LEAST_MS, _MOST_MS = 0.1, 600_000.0


def _indices() -> Sequence[int]:
    first = math.floor(math.log(_LEAST_MS) / math.log(RATIO))
    last = math.ceil(math.log(_MOST_MS) / math.log(RATIO))
    return range(first * EVERY, last * EVERY + 1, EVERY)


INDICES = _indices()
"""Of the histogram's buckets: the last that each exported one holds."""

BOUNDS_S = [GROWTH**index / 1000 for index in INDICES]
"""s."""


def bucket_of(value_ms: float) -> int:
    """Return the number of the exported bucket that holds a value; one beyond the last for what is larger."""
    return bisect_left(BOUNDS_S, value_ms / 1000)


def cumulative(histogram: Histogram) -> list[int]:
    """Return how many values are not above each bound."""
    counts, below, ordered = [], histogram.zeros, sorted(histogram.buckets.items())
    position = 0
    for index in INDICES:
        while position < len(ordered) and ordered[position][0] <= index:
            below += ordered[position][1]
            position += 1
        counts.append(below)
    return counts


def coarse(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the cumulative counts of every third bound, and of all: for what there may be many of."""
    counts = zip(BOUNDS_S[::_COARSE], cumulative(histogram)[::_COARSE], strict=True)
    return [*((f"{bound:.6g}", float(count)) for bound, count in counts), ("+Inf", float(histogram.count))]

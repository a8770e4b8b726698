"""A mergeable distribution: counts in buckets whose widths grow with the value, so that each is known to 1 %.

C. Masson, J. E. Rim, H. K. Lee, DDSketch: A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees,
PVLDB 12 (2019). Bucket i holds the values in (G^(i-1), G^i] and stands for 2 G^i / (G + 1): both ends are 1 % away from
it.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

ERROR = 0.01
"""Relative, at most, of a quantile."""

SMALLEST = 1e-9
"""Values up to it, and negative ones, are counted as 0: a millionth of a nanosecond, where values are milliseconds."""

GROWTH = (1 + ERROR) / (1 - ERROR)
"""Of a bucket's upper end to that of the one before it."""

_LOG_G = math.log(GROWTH)


class Wire(msgspec.Struct, frozen=True, array_like=True):
    """A histogram as it travels."""

    indices: list[int]
    """Of the buckets that are not empty, ascending."""
    counts: list[int]
    """One for each of them."""
    zeros: int
    total: float


class Histogram:
    """Counts of values; merging is adding the counts."""

    __slots__ = ("buckets", "count", "total", "zeros")

    def __init__(self) -> None:
        self.count = 0
        """Of all values."""
        self.total = 0.0
        """Their sum."""
        self.zeros = 0
        """How many of them were not above SMALLEST."""
        self.buckets: dict[int, int] = {}
        """The count of each index that has one."""

    def add(self, values: Sequence[float] | NDArray[np.float64]) -> None:
        """Count values; raises ValueError where one is not finite, and then counts none."""
        array = np.asarray(values, dtype=float)
        if not np.isfinite(array).all():
            raise ValueError("a histogram holds finite values only")
        positive = array[array > SMALLEST]
        self.count += len(array)
        self.total += float(array.sum())
        self.zeros += len(array) - len(positive)
        if not len(positive):
            return
        indices = np.ceil(np.log(positive) / _LOG_G).astype(np.int64)
        lowest = int(indices.min())
        counts = np.bincount(indices - lowest)
        filled = np.flatnonzero(counts)
        self._count((filled + lowest).tolist(), counts[filled].tolist())

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another one, which stays as it is."""
        self.count += other.count
        self.total += other.total
        self.zeros += other.zeros
        self._count(list(other.buckets), list(other.buckets.values()))

    def quantile(self, quantile: float) -> float:
        """Return the value at sorted index floor(n * quantile), to 1 %; raises ValueError where there is none."""
        if not self.count:
            raise ValueError("an empty histogram has no quantiles")
        left = min(self.count - 1, int(self.count * quantile)) - self.zeros
        if left < 0:
            return 0.0
        value = 0.0
        for index in sorted(self.buckets):
            value = 2 * math.exp(index * _LOG_G) / (GROWTH + 1)
            left -= self.buckets[index]
            if left < 0:
                break
        return value

    def to_wire(self) -> Wire:
        """Return what :meth:`from_wire` reads."""
        indices = sorted(self.buckets)
        return Wire(indices, [self.buckets[index] for index in indices], self.zeros, self.total)

    @classmethod
    def from_wire(cls, wire: Wire) -> "Histogram":
        """Return the histogram that was sent; raises ValueError where its two lists are not of one length."""
        received = cls()
        received._count(wire.indices, wire.counts)
        received.count = wire.zeros + sum(wire.counts)
        received.zeros, received.total = wire.zeros, wire.total
        return received

    def _count(self, indices: Sequence[int], counts: Sequence[int]) -> None:
        buckets = self.buckets
        for index, more in zip(indices, counts, strict=True):
            buckets[index] = buckets.get(index, 0) + more

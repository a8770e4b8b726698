"""Distributions of numbers of tokens."""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate

TOKENS = tuple(4**power for power in range(14))
"""Bounds of sizes: OpenTelemetry's."""


@dataclass
class Sizes:
    """How many requests had how many tokens."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(TOKENS) + 1))
    total: int = 0

    def add(self, tokens: int) -> None:
        """Count one request."""
        self.counts[bisect_left(TOKENS, tokens)] += 1
        self.total += tokens

    @property
    def known(self) -> bool:
        """Whether any request's are known."""
        return any(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many had not more than each bound."""
        bounds = [*(str(bound) for bound in TOKENS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))

"""The latencies of some requests: which there are, and how each is distributed."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.gaps import ChunkCounts, all_gaps_ms
from loadgen.measure.statistics import Distribution
from loadgen.metrics import LATENCIES
from loadgen.record import RequestRecord


def latency(
    ok: Sequence[RequestRecord], distribution: Callable[[NDArray[np.float64]], Distribution]
) -> dict[str, Distribution]:
    """Return the distributions of complete answers' latencies, ms; gaps only where they were measured."""
    found = {
        metric.key: distribution(np.array([value for r in ok if (value := metric.of(r)) is not None], dtype=float))
        for metric in LATENCIES
        if metric.of is not None
    }
    gaps, gap_metric = all_gaps_ms(ok), ChunkCounts.of(ok).metric
    if len(gaps) and gap_metric is not None:
        found[gap_metric.key] = distribution(gaps)
    return found

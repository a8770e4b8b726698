"""The latencies of some requests: which there are, and how each is distributed."""

from collections.abc import Callable, Iterable

import numpy as np

from loadgen.measure.columns import Floats
from loadgen.measure.gaps import ChunkCounts, all_gaps_ms
from loadgen.measure.records import Records
from loadgen.measure.statistics import Distribution
from loadgen.metrics import E2E, LATENCIES, TTFT
from loadgen.record import RequestRecord


def latency(ok: Iterable[RequestRecord], distribution: Callable[[Floats], Distribution]) -> dict[str, Distribution]:
    """Return the distributions of complete answers' latencies, ms; gaps only where they were measured."""
    ok = Records.of(ok)
    found = {metric.key: distribution(ok.known_figures(metric)) for metric in LATENCIES if metric.of is not None}
    if (gap_metric := ChunkCounts.of(ok).metric) is not None:
        gaps = distribution(all_gaps_ms(ok))
        if gaps.n:
            found[gap_metric.key] = gaps
    return found


def shortest_ms(ok: Records) -> Floats:
    """Return the shortest time that was measured of each complete answer, ms: TTFT, or E2E where there was none."""
    ttft = ok.figure(TTFT)
    found = np.where(np.isnan(ttft) | (ttft == 0), ok.figure(E2E), ttft)
    return found[~np.isnan(found)]

"""The latencies of a summary: which there are, and how each is distributed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.measure import metrics
from loadgen.measure.limits import SHARED_READS_LIMIT
from loadgen.record import RequestRecord

ONE_TOKEN_A_CHUNK = 1.05
"""Output tokens per chunk up to which gaps between chunks are called inter-token latencies."""

Distribution = Callable[[NDArray[np.float64]], Mapping[str, Any]]

_PER_REQUEST: Mapping[str, Callable[[RequestRecord], float | None]] = {
    "ttft_ms": metrics.ttft_ms,
    "tpot_ms": metrics.tpot_ms,
    "e2e_ms": metrics.e2e_ms,
    "connect_ms": metrics.connect_ms,
}


def latency(ok: Sequence[RequestRecord], distribution: Distribution) -> dict[str, Any]:
    """Return the distributions of complete answers' latencies, ms; gaps only where they were measured."""
    found: dict[str, Any] = {
        name: distribution(np.array([value for r in ok if (value := metric(r)) is not None], dtype=float))
        for name, metric in _PER_REQUEST.items()
    }
    gaps = metrics.all_icl_ms(ok)
    shared, chunks = metrics.shared_reads(ok)
    if len(gaps) and shared <= SHARED_READS_LIMIT * chunks:  # a gap between chunks of one read was not measured
        found["itl_ms" if _one_token_a_chunk(ok) else "icl_ms"] = distribution(gaps)
    return found


def _one_token_a_chunk(ok: Sequence[RequestRecord]) -> bool:
    streamed = [r for r in ok if r.chunk_ns is not None and r.output_tokens is not None]
    tokens = sum(r.output_tokens or 0 for r in streamed)
    return tokens <= ONE_TOKEN_A_CHUNK * sum(r.chunks or 0 for r in streamed)

"""Gaps between the chunks of answers: which there are, and whether they are of tokens or of chunks of several."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import MS
from loadgen.measure.limits import SHARED_READS_LIMIT
from loadgen.metrics import ICL, ITL, Metric
from loadgen.record import Outcome, RequestRecord

ONE_TOKEN_A_CHUNK = 1.05
"""Output tokens per chunk up to which gaps between chunks are called inter-token latencies."""


@dataclass(slots=True)
class ChunkCounts:
    """What decides whether the gaps of some answers are shown, and under which name."""

    chunks: int = 0
    """Chunks of which is known whether they shared a read with a later one."""
    shared: int = 0
    """Chunks that did; the gap after such a chunk reads 0 and was not measured."""
    eager_tokens: int = 0
    """Output tokens of complete answers that were read token by token."""
    eager_chunks: int = 0
    """Chunks of the same answers."""

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> Self:
        """Count some records."""
        counts = cls()
        counts.add(records)
        return counts

    def add(self, records: Iterable[RequestRecord]) -> None:
        """Count more records; with or without the times of their chunks."""
        for r in records:
            chunks = r.chunks or 0
            if r.coalesced_chunks is not None:
                self.chunks += chunks
                self.shared += r.coalesced_chunks
            if r.outcome is Outcome.OK and r.first_token_ns is not None and not r.lazy and r.output_tokens is not None:
                self.eager_tokens += r.output_tokens
                self.eager_chunks += chunks

    @property
    def metric(self) -> Metric | None:
        """What the gaps between chunks are; None where too many of them were not measured."""
        if self.shared > SHARED_READS_LIMIT * self.chunks:
            return None
        return ITL if self.eager_tokens <= ONE_TOKEN_A_CHUNK * self.eager_chunks else ICL


def all_gaps_ms(records: Iterable[RequestRecord]) -> NDArray[np.float64]:
    """Return the gaps between chunks of many records, ms, of which there may be millions."""
    streams = [r.chunk_ns for r in records if r.outcome is Outcome.OK and r.chunk_ns]
    gaps = np.empty(sum(len(stream) - 1 for stream in streams))
    at = 0
    for stream in streams:  # straight into place: arrays to be concatenated would double the peak of a report's memory
        gaps[at : at + len(stream) - 1] = np.diff(stream)
        at += len(stream) - 1
    gaps /= MS
    return gaps

"""Gaps between the chunks of answers: which there are, and whether they are of tokens or of chunks of several."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from loadgen.measure.columns import Floats
from loadgen.measure.limits import SHARED_READS_LIMIT
from loadgen.measure.records import Records
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
        records = Records.of(records)
        looked_at = records.where_known("coalesced_chunks")
        self.chunks += looked_at.total("chunks")
        self.shared += looked_at.total("coalesced_chunks")
        eager = records.where(records.equal("outcome", Outcome.OK) & ~records.yes("lazy"))
        eager = eager.where_known("first_token_ns", "output_tokens")
        self.eager_tokens += eager.total("output_tokens")
        self.eager_chunks += eager.total("chunks")

    @property
    def metric(self) -> Metric | None:
        """What the gaps between chunks are; None where too many of them were not measured."""
        if self.shared > SHARED_READS_LIMIT * self.chunks:
            return None
        return ITL if self.eager_tokens <= ONE_TOKEN_A_CHUNK * self.eager_chunks else ICL


def all_gaps_ms(records: Iterable[RequestRecord]) -> Floats:
    """Return the gaps between chunks of many records, ms, of which there may be millions."""
    records = Records.of(records)
    return records.where(records.equal("outcome", Outcome.OK)).gaps_ms()

"""What a record means: one function per metric, None where it was not observed.

The clock starts at ``sent_ns``, just before the send call of the request's last byte; connecting is not part of it.
TPOT is that of MLPerf LoadGen (logging.cc) and vLLM (``calculate_metrics``), from the first token to the last.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import MS, SECOND
from loadgen.record import Outcome, RequestRecord


def e2e_ms(r: RequestRecord) -> float | None:
    """End of the response minus sent, ms; of complete answers only."""
    if r.outcome is not Outcome.OK or r.sent_ns is None or r.end_ns is None:
        return None
    return (r.end_ns - r.sent_ns) / MS


def ttft_ms(r: RequestRecord) -> float | None:
    """First token minus sent, ms. None where the answer was not streamed."""
    if r.outcome is not Outcome.OK or r.sent_ns is None or r.first_token_ns is None:
        return None
    return (r.first_token_ns - r.sent_ns) / MS


def tpot_ms(r: RequestRecord) -> float | None:
    """(last - first token) / (n - k), ms, n output tokens that the stream showed, k those of the first chunk.

    k is 1 where it is not known. None without a stream, of several answers in one stream, where no token came after the
    first chunk, and where first and last came in one read.
    """
    if r.outcome is not Outcome.OK or r.first_token_ns is None or r.last_token_ns is None or r.output_tokens is None:
        return None
    if r.choices is not None:
        return None
    shown = r.output_tokens - (r.hidden_tokens or 0)
    after_first = shown - (1 if r.first_chunk_tokens is None else r.first_chunk_tokens)
    if after_first < 1 or r.last_token_ns <= r.first_token_ns:
        return None
    return (r.last_token_ns - r.first_token_ns) / after_first / MS


def icl_ms(r: RequestRecord) -> list[float]:
    """Gaps between consecutive chunks, ms: inter-token latencies only where each chunk carries one token."""
    if r.outcome is not Outcome.OK or r.chunk_ns is None:
        return []
    return [(later - earlier) / MS for earlier, later in pairwise(r.chunk_ns)]


def all_icl_ms(records: Iterable[RequestRecord]) -> NDArray[np.float64]:
    """Return the gaps of :func:`icl_ms` of many records, of which there may be millions."""
    streams = [r.chunk_ns for r in records if r.outcome is Outcome.OK and r.chunk_ns]
    gaps = np.empty(sum(len(stream) - 1 for stream in streams))
    at = 0
    for stream in streams:  # straight into place: arrays to be concatenated would double the peak of a report's memory
        gaps[at : at + len(stream) - 1] = np.diff(stream)
        at += len(stream) - 1
    gaps /= MS
    return gaps


def shared_reads(records: Iterable[RequestRecord]) -> tuple[int, int]:
    """Return how many chunks shared a read with a later one, and of how many, where that was looked at."""
    looked_at = [r for r in records if r.coalesced_chunks is not None]
    return sum(r.coalesced_chunks or 0 for r in looked_at), sum(r.chunks or 0 for r in looked_at)


def connect_ms(r: RequestRecord) -> float | None:
    """Time to open the connection, TLS included, ms; None on a reused one."""
    if r.connect_ns is None or r.connected_ns is None:
        return None
    return (r.connected_ns - r.connect_ns) / MS


def tokens_per_second(r: RequestRecord) -> float | None:
    """Output tokens over the full round trip: what one user gets."""
    e2e = e2e_ms(r)
    if e2e is None or e2e <= 0 or not r.output_tokens:
        return None
    return r.output_tokens / (e2e * MS / SECOND)

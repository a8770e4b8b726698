"""The records of several processes on one clock."""

from collections.abc import Sequence

import msgspec

from loadgen.measure.facts import WorkerFacts
from loadgen.record import RequestRecord

_TIMES = (
    "connect_ns",
    "connected_ns",
    "scheduled_ns",
    "sent_ns",
    "first_byte_ns",
    "first_token_ns",
    "last_token_ns",
    "end_ns",
)


def on_one_clock(records: Sequence[RequestRecord], workers: Sequence[WorkerFacts]) -> list[RequestRecord]:
    """Return the records with all times on the clock of worker 0; those of processes that read it are as they were."""
    offsets = {w.number: w.clock_offset_ns for w in workers if w.clock_offset_ns}
    return [_shifted(r, offsets[r.worker]) if r.worker in offsets else r for r in records] if offsets else list(records)


def _shifted(r: RequestRecord, offset: int) -> RequestRecord:
    times = {name: at + offset for name in _TIMES if (at := getattr(r, name)) is not None}
    chunks = None if r.chunk_ns is None else [at + offset for at in r.chunk_ns]
    return msgspec.structs.replace(r, chunk_ns=chunks, **times)

"""The records of several processes on one clock."""

from collections.abc import Sequence
from typing import get_args, get_type_hints

import msgspec

from loadgen.measure.facts import WorkerFacts
from loadgen.record import Moment, RequestRecord

_HINTS = {name: get_args(hint) for name, hint in get_type_hints(RequestRecord, include_extras=True).items()}
_TIMES = [name for name, hints in _HINTS.items() if Moment in hints]
_LISTS_OF_TIMES = [name for name, hints in _HINTS.items() if list[Moment] in hints]


def on_one_clock(records: Sequence[RequestRecord], workers: Sequence[WorkerFacts]) -> list[RequestRecord]:
    """Return the records with all times on the clock of worker 0; those of processes that read it are as they were."""
    offsets = {w.number: w.clock_offset_ns for w in workers if w.clock_offset_ns}
    return [_shifted(r, offsets[r.worker]) if r.worker in offsets else r for r in records] if offsets else list(records)


def _shifted(r: RequestRecord, offset: int) -> RequestRecord:
    times = {name: at + offset for name in _TIMES if (at := getattr(r, name)) is not None}
    lists = {name: [at + offset for at in of] for name in _LISTS_OF_TIMES if (of := getattr(r, name)) is not None}
    return msgspec.structs.replace(r, **times, **lists)

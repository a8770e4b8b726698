"""The records of several processes on one clock."""

from collections.abc import Sequence
from typing import get_args, get_type_hints

import numpy as np

from loadgen.measure.facts import WorkerFacts
from loadgen.measure.records import Records
from loadgen.record import Moment, RequestRecord

_TIMES = tuple(
    name
    for name, hint in get_type_hints(RequestRecord, include_extras=True).items()
    if {Moment, list[Moment]} & set(get_args(hint))
)


def on_one_clock(records: Records, workers: Sequence[WorkerFacts]) -> Records:
    """Return the records with all times on the clock of worker 0; those of processes that read it are as they were."""
    offsets = {w.number: w.clock_offset_ns for w in workers if w.clock_offset_ns}
    if not offsets:
        return records
    made_by = records.ints("worker")
    by = np.zeros(len(records), dtype=np.int64)
    for number, offset in offsets.items():
        by[made_by == number] = offset
    return records.shifted(_TIMES, by)

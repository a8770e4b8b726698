"""The figures of a long run by time slice: whether the engine stayed as fast as it was at the beginning."""

from itertools import pairwise
from math import ceil, isnan

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.columns import ABSENT, Ints
from loadgen.measure.load import Spans
from loadgen.measure.records import Records
from loadgen.measure.statistics import distribution
from loadgen.metrics import LIMITS, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE
from loadgen.record import Outcome
from loadgen.results.summary_schema import Slice
from loadgen.results.table import Table
from loadgen.results.text import few_note, number, percentile, short

LONG_S = 3600.0
"""Shortest measured time that is cut into slices: in less, the check of the steady state finds a drift."""

SLICES = 12
"""Most slices of a run: few enough to be read at a glance."""

_MINUTE, _DAY = 60 * SECOND, 24 * 3600 * SECOND
_LENGTHS = tuple(m * _MINUTE for m in (5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720, 1440))
"""Of a slice; of longer runs whole days."""


def drift(measured: Records, *, thinks: bool = False) -> list[Slice]:
    """Return the figures of slices of the measured time, in order; none of a run of less than an hour.

    Throughput of a slice is of what was served in it; latencies and failures are of the requests that began in it. The
    last slice ends when the last request began: the drain is in none. ``thinks``: whether users think.
    """
    began = _beginnings(measured)
    known = began[began != ABSENT]
    if not len(known):
        return []
    start, last = int(known.min()), int(known.max())
    edges = edges_of_slices(start, last)
    if max(last, int(measured.ints("end_ns").max())) - start < LONG_S * SECOND or len(edges) <= 2:  # noqa: PLR2004 one
        return []
    place = np.where(began == ABSENT, -1, np.searchsorted(edges[1:-1], began, side="right"))
    slices = []
    for i, (start_s, end_s) in enumerate(pairwise(((edges - edges[0]) / SECOND).tolist())):
        of_slice = measured.where(place == i)
        ok = of_slice.where(of_slice.equal("outcome", Outcome.OK))
        answers, tokens = _served(measured, edges[i : i + 2], thinks=thinks)
        slices.append(
            Slice(
                start_s=start_s,
                end_s=end_s,
                requests_per_minute=60 * answers / (end_s - start_s),
                output_tokens_per_second=None if isnan(tokens) else tokens / (end_s - start_s),
                failed=len(of_slice) - len(ok),
                latency={metric.key: distribution(ok.known_figures(metric)) for metric in LIMITS},
            )
        )
    return slices


def edges_of_slices(start: int, end: int) -> Ints:
    """Return where the slices of a span of time begin and end, ns.

    They have a round length. What is left at the end is part of the last one if it is shorter than half a slice.
    """
    lasts = end - start
    length = next((length for length in _LENGTHS if lasts <= SLICES * length), _DAY * ceil(lasts / (SLICES * _DAY)))
    number_of = max(1, (2 * lasts + length) // (2 * length))
    return np.array([*(start + i * length for i in range(number_of)), end], dtype=np.int64)


def _beginnings(measured: Records) -> Ints:
    """Return when each request was due, else when it was sent, else when it failed to be; :data:`ABSENT` for none."""
    began = measured.ints("end_ns")
    for name in ("sent_ns", "scheduled_ns"):
        began = np.where(measured.known(name), measured.ints(name), began)
    return began


def _served(measured: Records, edges: Ints, *, thinks: bool) -> tuple[float, float]:
    """Return the answers that were served between two edges, and their tokens; nan if one of them was not counted."""
    touching = measured.where((measured.ints("end_ns") > edges[0]) & (measured.ints("sent_ns") < edges[1]))
    spans = (Spans.of_cycles if thinks else Spans.of_service)(touching)
    return float(spans.answers_served(edges)[0]), float(spans.tokens_served(edges)[0])


def drift_table(slices: list[Slice]) -> Table:
    """Return a row for each slice; a table without rows for a run that has none."""
    columns = (
        "time",
        REQUESTS_PER_MINUTE.label,
        OUTPUT_TOKENS_PER_SECOND.label,
        *(metric.percentile_heading(p) for metric in LIMITS for p in ("p50", "p95")),
        "failed",
    )
    rows = tuple(
        (
            f"{_clock(s.start_s)} to {_clock(s.end_s)}",
            short(s.requests_per_minute),
            short(s.output_tokens_per_second),
            *(percentile(s.latency.get(metric.key), p, short) for metric in LIMITS for p in ("p50", "p95")),
            number(s.failed, 0),
        )
        for s in slices
    )
    note = (
        "Hours and minutes since the first measured request. Throughput is of what was served in a slice, latencies "
        "are of the requests that began in it, from their send."
    )
    note = f"{note} {few_note(rows)}".rstrip()
    return Table("Figures over time", columns, rows, note, wide=tuple(range(4, len(columns) - 1, 2)))


def _clock(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}:{minutes:02d}"

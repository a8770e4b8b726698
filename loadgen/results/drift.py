"""The figures of a long run by time slice: whether the engine stayed as fast as it was at the beginning."""

from itertools import pairwise
from math import isnan

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.latency import latency
from loadgen.measure.load import Spans, Window, belonging_to
from loadgen.measure.records import Records
from loadgen.measure.statistics import distribution
from loadgen.metrics import LIMITS, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE
from loadgen.record import Outcome
from loadgen.results.summary_schema import Slice
from loadgen.results.table import Table
from loadgen.results.text import number, percentile, short

LONG_S = 3600.0
"""Shortest measured time that is cut into slices: in less, the check of the steady state finds a drift."""

SLICES = 12
"""Few enough to be read at a glance; of an hour each is five minutes."""


def drift(measured: Records) -> list[Slice]:
    """Return the figures of equal slices of the measured time, in order; none of a run of less than an hour.

    Throughput of a slice is of what was served in it; latencies and failures are of the requests sent in it.
    """
    sent, ends = (measured.where_known(name).ints(name) for name in ("sent_ns", "end_ns"))
    if not len(sent) or not len(ends) or ends.max() - sent.min() < LONG_S * SECOND:
        return []
    edges = np.linspace(int(sent.min()), int(ends.max()), SLICES + 1).astype(np.int64)
    return [_slice(Window(int(start), int(end)), int(edges[0]), measured) for start, end in pairwise(edges)]


def _slice(window: Window, began: int, measured: Records) -> Slice:
    is_inside = (measured.ints("end_ns") > window.start) & (measured.ints("sent_ns") < window.end)
    spans = Spans.of_service(measured.where(is_inside))
    edges = np.array([window.start, window.end], dtype=np.int64)
    tokens = float(spans.tokens_served(edges)[0])
    sent = belonging_to(window, measured)
    ok = sent.where(sent.equal("outcome", Outcome.OK))
    latencies = latency(ok, distribution)
    return Slice(
        start_s=(window.start - began) / SECOND,
        end_s=(window.end - began) / SECOND,
        requests_per_minute=60 * float(spans.answers_served(edges)[0]) / window.seconds,
        output_tokens_per_second=None if isnan(tokens) else tokens / window.seconds,
        failed=len(sent) - len(ok),
        latency={metric.key: latencies[metric.key] for metric in LIMITS},
    )


def drift_table(slices: list[Slice]) -> Table:
    """Return a row for each slice; a table without rows for a run that has none."""
    columns = (
        "minutes",
        REQUESTS_PER_MINUTE.label,
        OUTPUT_TOKENS_PER_SECOND.label,
        *(metric.percentile_heading(p) for metric in LIMITS for p in ("p50", "p95")),
        "failed",
    )
    rows = tuple(
        (
            f"{s.start_s / 60:.0f} to {s.end_s / 60:.0f}",
            short(s.requests_per_minute),
            short(s.output_tokens_per_second),
            *(percentile(s.latency.get(metric.key), p, short) for metric in LIMITS for p in ("p50", "p95")),
            number(s.failed, 0),
        )
        for s in slices
    )
    note = (
        "Minutes since the first measured request. Throughput is of what was served in a slice, latencies are of the "
    )
    note += "requests sent in it."
    return Table("Figures over time", columns, rows, note, wide=tuple(range(4, len(columns) - 1, 2)))

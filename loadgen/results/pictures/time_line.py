"""The time line of a run: its load, throughput, latencies and failures, slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.measure.columns import ABSENT, Floats, Ints
from loadgen.measure.load import Spans
from loadgen.measure.records import Records
from loadgen.measure.statistics import QUANTILES, percentile
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TPOT, TTFT, Metric
from loadgen.record import Outcome
from loadgen.results.pictures.drawing import BLUE, ORANGE, QUIET, Picture, from_zero, plain
from loadgen.results.run_data import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST_REQUESTS = 10
FEWEST_SLICES, MOST_SLICES = 10, 150
_REQUESTS_A_SLICE = 6
"""Requests that began in a slice, on average, as long as that leaves enough slices."""
_FEWEST = {"p50": 1, "p95": 20}
"""Values of a slice from which its percentile is drawn. In a picture a single value is a point, not an estimate."""
_PANEL_IN, _REST_IN = 1.15, 0.75
"""Height of a panel, and of the rest of the picture."""
_MINUTES_FROM_S = 180.0
"""Length of a run from which time is in minutes."""
_LETTERS_APART = 0.03
"""Share of the width that the number of users of a step needs."""


@dataclass(frozen=True)
class _Panel:
    """A panel: what it shows, and its lines by their names."""

    label: str
    lines: dict[str, Floats] = field(default_factory=dict)

    @property
    def has_values(self) -> bool:
        return any(np.isfinite(values).any() for values in self.lines.values())


def time_line(run: Run) -> list[Picture]:
    """Return the picture; none of a run of a few requests."""
    measured = run.requests.where(run.requests.equal("phase", "measure"))
    edges = _edges(measured)
    if edges is None:
        return []
    panels = [panel for panel in _panels(run, measured, edges) if panel.has_values]
    begun = [((s.began_ns - edges[0]) / SECOND, s.concurrency) for s in run.manifest.steps]
    slice_s = (edges[1] - edges[0]) / SECOND
    note = (
        f"Slices of {slice_s:.3g} s. Throughput is of what was served in a slice, latencies are of requests sent in it."
    )
    if begun:
        note += " Dotted: a step begins, with its users."
    draw = partial(_draw, panels, (edges[:-1] - edges[0]) / SECOND, slice_s, begun)
    return [Picture("time-line", "Time line", note, draw, height_in=_REST_IN + _PANEL_IN * len(panels))]


def _edges(measured: Records) -> Ints | None:
    """Return the edges of equal slices from the first request to the last end."""
    began, ended = _began(measured), measured.ints("end_ns")
    began, ended = began[began != ABSENT], ended[ended != ABSENT]
    if len(began) < FEWEST_REQUESTS or not len(ended) or ended.max() <= began.min():
        return None
    slices = int(np.clip(len(began) // _REQUESTS_A_SLICE, FEWEST_SLICES, MOST_SLICES))
    width = max(1, -(-int(ended.max() - began.min()) // slices))
    return np.asarray(began.min() + width * np.arange(slices + 1), dtype=np.int64)


def _began(records: Records) -> Ints:
    """Return when each request was sent; of one that could not be sent, when it ended."""
    sent = records.ints("sent_ns")
    return np.asarray(np.where(sent == ABSENT, records.ints("end_ns"), sent))


def _panels(run: Run, measured: Records, edges: Ints) -> list[_Panel]:
    seconds = (edges[1] - edges[0]) / SECOND
    spans = Spans.of_service(measured)
    failed = measured.where(~measured.equal("outcome", Outcome.OK, Outcome.ABORTED))
    failures = np.histogram(_began(failed), edges)[0] * 60.0 / seconds if len(failed) else np.array([])
    return [
        _Panel("requests\nin flight", {"": spans.in_flight(edges)}),
        _Panel(REQUESTS_PER_MINUTE.label, {"": spans.answers_served(edges) * 60 / seconds}),
        _Panel(OUTPUT_TOKENS_PER_SECOND.label.replace(" ", "\n"), {"": spans.tokens_served(edges) / seconds}),
        *(_Panel(metric.heading, _percentiles(measured, metric, edges)) for metric in (TTFT, TPOT)),
        _Panel("failed/min", {"": failures}),
        *_engine_panels(run, edges),
        _Panel("GPU power, W", {"": _power(run, edges)}),
    ]


def _percentiles(measured: Records, metric: Metric, edges: Ints) -> dict[str, Floats]:
    """Return percentiles of the requests that were sent in each slice; nan where there are too few."""
    values, sent = measured.figure(metric), measured.ints("sent_ns")
    known = ~np.isnan(values)
    slices = np.searchsorted(edges, sent[known], side="right") - 1
    order = np.argsort(slices, kind="stable")
    groups = np.split(values[known][order], np.searchsorted(slices[order], np.arange(1, len(edges) - 1)))
    return {
        p: np.array([percentile(group, QUANTILES[p]) if len(group) >= fewest else np.nan for group in groups])
        for p, fewest in _FEWEST.items()
    }


def _engine_panels(run: Run, edges: Ints) -> list[_Panel]:
    """Return what the engine reported of itself: its requests, and how full its KV cache was."""
    samples = run.manifest.engine_load
    if not samples:
        return []
    at = np.array([s.at_ns for s in samples], dtype=float)
    running, waiting, kv_cache = (
        _between(at, np.array([getattr(s, name) for s in samples], dtype=float), edges)
        for name in ("running", "waiting", "kv_cache")
    )
    return [
        _Panel("engine:\nrequests", {"running": running, "waiting": waiting}),
        _Panel("KV cache\nin use, %", {"": 100 * kv_cache}),
    ]


def _between(at: Floats, values: Floats, edges: Ints) -> Floats:
    """Return samples in the middle of each slice, interpolated; nan before the first one and after the last."""
    known = np.isfinite(values)
    if not known.any():
        return np.full(len(edges) - 1, np.nan)
    middles = (edges[:-1] + edges[1:]) / 2
    return np.asarray(np.interp(middles, at[known], values[known], left=np.nan, right=np.nan))


def _power(run: Run, edges: Ints) -> Floats:
    """Return the power of the engine's GPUs in the middle of each slice; nan where it was not measured."""
    samples = run.manifest.energy
    return _between(np.array([s.at_ns for s in samples]), np.array([s.watts for s in samples], dtype=float), edges)


def _draw(
    panels: Sequence[_Panel],
    starts_s: NDArray[np.float64],
    slice_s: float,
    begun: Sequence[tuple[float, int]],
    figure: "Figure",
) -> None:
    unit, seconds = ("min", 60.0) if starts_s[-1] + slice_s > _MINUTES_FROM_S else ("s", 1.0)
    steps = [(at / seconds, users) for at, users in begun]
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    named: set[tuple[str, ...]] = {("",)}
    for axes, panel in zip(rows, panels, strict=True):
        _draw_panel(axes, panel, (starts_s + slice_s / 2) / seconds, steps)
        if tuple(panel.lines) not in named:
            named.add(tuple(panel.lines))
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0, fontsize=8.5)
    rows[0].set_xlim(0, (starts_s[-1] + slice_s) / seconds)
    rows[-1].set_xlabel(f"time since the first measured request, {unit}")
    plain(rows[-1].xaxis)
    figure.align_ylabels(rows)
    _name_steps(rows[0], steps)


def _draw_panel(axes: "Axes", panel: _Panel, at: Floats, steps: Sequence[tuple[float, int]]) -> None:
    for began, _ in steps:
        axes.axvline(began, color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)))
    for (name, values), colour in zip(panel.lines.items(), (BLUE, ORANGE), strict=False):
        if np.isfinite(values).any():
            _draw_line(axes, at, values, colour, name)
    from_zero(axes.set_ylim, 1.15 * float(np.nanmax(np.concatenate(list(panel.lines.values())))))
    axes.set_ylabel(panel.label, fontsize=8.5)
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(labelsize=8.5)
    plain(axes.yaxis)


def _draw_line(axes: "Axes", at: Floats, values: Floats, colour: str, name: str) -> None:
    """Draw a line with a dot where neighbours are missing: without it a single value would not show."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    axes.plot(at, values, color=colour, linewidth=1.4, label=name or None)
    axes.plot(at[alone], values[alone], "o", color=colour, markersize=2.5)


def _name_steps(axes: "Axes", steps: Sequence[tuple[float, int]]) -> None:
    """Write the users of each step above the first panel, where there is room."""
    right, last = axes.get_xlim()[1], -np.inf
    style: dict[str, Any] = {"fontsize": 8.5, "color": QUIET}
    for at, users in steps:
        if at / right - last >= _LETTERS_APART:
            axes.annotate(f"{users:,}", (at, 1.02), xycoords=("data", "axes fraction"), **style)
            last = at / right
    if steps:
        axes.annotate("users", (-0.01, 1.02), xycoords="axes fraction", ha="right", **style)

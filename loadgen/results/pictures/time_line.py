"""The time line of a run: its load, throughput, latencies and failures, slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.columns import ABSENT, Floats, Ints
from loadgen.measure.facts import StepFacts
from loadgen.measure.load import Spans, begun_ns
from loadgen.measure.records import Records
from loadgen.measure.statistics import QUANTILES, percentile
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TPOT, TTFT, Metric
from loadgen.record import Outcome
from loadgen.results.pictures.drawing import BLUE, FEWEST_REQUESTS, ORANGE, QUIET, Picture, from_zero, plain
from loadgen.results.run_data import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


Line = tuple[Floats, Floats]
"""Times, s, and values."""


@dataclass(frozen=True)
class _Panel:
    """A panel: what it shows, and its lines by their names."""

    label: str
    lines: dict[str, Line]
    is_sampled: bool = False
    """Whether the points are all that is known: what was between two of them is not."""
    top: float = 0.0
    """To where the axis reaches at least."""

    @property
    def has_values(self) -> bool:
        return any(np.isfinite(values).any() for _, values in self.lines.values())


def time_line(run: Run) -> list[Picture]:
    """Return the picture; none of a run of a few requests."""
    measured = run.measured
    edges = _edges(measured)
    if edges is None:
        return []
    panels = [panel for panel in _panels(run, measured, edges) if panel.has_values]
    steps = [_Step.of(step, int(edges[0])) for step in run.manifest.steps]
    length_s, slice_s = (edges[-1] - edges[0]) / SECOND, (edges[1] - edges[0]) / SECOND
    note = (
        f"Slices of {slice_s:.3g} s: throughput is what was served during a slice, latencies are of the requests sent "
        f"during it; p95 where there are {_FEWEST['p95']} of them."
    )
    if steps:
        note += " Dotted: a step begins, with its users. Shaded: what counts."
    draw = partial(_draw, panels, length_s, steps)
    return [Picture("time-line", "Time line", note, draw, height_in=_REST_IN + _PANEL_IN * len(panels))]


class _Step(NamedTuple):
    """A step: its users, when it begins, and the time that counts, s since the first request."""

    users: int
    began: float
    window: tuple[float, float] | None

    @classmethod
    def of(cls, step: StepFacts, origin: int) -> "_Step":
        window = step.window_ns and ((step.window_ns[0] - origin) / SECOND, (step.window_ns[1] - origin) / SECOND)
        return cls(step.concurrency, (step.began_ns - origin) / SECOND, window)


def _edges(measured: Records) -> Ints | None:
    """Return the edges of equal slices from the first request to the last end."""
    began, ended = begun_ns(measured), measured.ints("end_ns")
    began, ended = began[began != ABSENT], ended[ended != ABSENT]
    if len(began) < FEWEST_REQUESTS or not len(ended) or ended.max() <= began.min():
        return None
    slices = int(np.clip(len(began) // _REQUESTS_A_SLICE, FEWEST_SLICES, MOST_SLICES))
    width = max(1, -(-int(ended.max() - began.min()) // slices))
    return np.asarray(began.min() + width * np.arange(slices + 1), dtype=np.int64)


def _panels(run: Run, measured: Records, edges: Ints) -> list[_Panel]:
    seconds = (edges[1] - edges[0]) / SECOND
    middles = ((edges[:-1] + edges[1:]) / 2 - edges[0]) / SECOND
    spans = Spans.of_service(measured)
    failed = measured.where(~measured.equal("outcome", Outcome.OK, Outcome.ABORTED))
    failures = (
        np.histogram(begun_ns(failed), edges)[0] * 60.0 / seconds if len(failed) else np.full(len(middles), np.nan)
    )
    tokens = spans.tokens_served(edges) / seconds
    return [
        _Panel("requests\nin flight", {"": (middles, spans.in_flight(edges))}),
        _Panel(REQUESTS_PER_MINUTE.label, {"": (middles, spans.answers_served(edges) * 60 / seconds)}),
        _Panel(OUTPUT_TOKENS_PER_SECOND.label.replace(" ", "\n"), {"": (middles, tokens)}),
        *(
            _Panel(m.heading, {p: (middles, values) for p, values in _percentiles(measured, m, edges).items()})
            for m in (TTFT, TPOT)
        ),
        _Panel("failed/min", {"": (middles, failures)}),
        *_sampled_panels(run, edges),
    ]


def _sampled_panels(run: Run, edges: Ints) -> list[_Panel]:
    """Return what the engine reported of itself, and the power of its GPUs."""
    loads, energy = run.manifest.engine_load, run.manifest.energy
    at = [s.at_ns for s in loads]
    queue = {name: _samples(at, [getattr(s, name) for s in loads], edges) for name in ("running", "waiting")}
    kv_cache = [None if s.kv_cache is None else 100 * s.kv_cache for s in loads]
    power = _samples([s.at_ns for s in energy], [s.watts for s in energy], edges)
    return [
        _Panel("engine:\nrequests", queue, is_sampled=True),
        _Panel("KV cache\nin use, %", {"": _samples(at, kv_cache, edges)}, is_sampled=True, top=100.0),
        _Panel("GPU power, W", {"": power}),
    ]


def _samples(at_ns: Sequence[int], values: Sequence[float | None], edges: Ints) -> Line:
    """Return the samples that were taken while requests were measured."""
    at, known = np.array(at_ns, dtype=float), np.array(values, dtype=float)
    inside = (at >= edges[0]) & (at <= edges[-1])
    return (at[inside] - edges[0]) / SECOND, known[inside]


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


def _draw(panels: Sequence[_Panel], length_s: float, steps: Sequence[_Step], figure: "Figure") -> None:
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    named: set[tuple[str, ...]] = {("",)}
    for axes, panel in zip(rows, panels, strict=True):
        _draw_panel(axes, panel, steps)
        if tuple(panel.lines) not in named:
            named.add(tuple(panel.lines))
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0, fontsize=8.5)
    is_long = length_s > _MINUTES_FROM_S
    rows[0].set_xlim(0, length_s)
    rows[-1].set_xlabel(f"time since the first measured request, {'min' if is_long else 's'}")
    _time_axis(rows[-1], is_long=is_long)
    figure.align_ylabels(rows)
    _name_steps(rows[0], steps)


def _time_axis(axes: "Axes", *, is_long: bool) -> None:
    """Label an axis of seconds, in minutes if it is long."""
    from matplotlib.ticker import MaxNLocator

    if not is_long:
        plain(axes.xaxis)
        return
    end = axes.get_xlim()[1] / 60
    ticks = [tick for tick in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0, end) if tick <= end]
    axes.set_xticks([60 * tick for tick in ticks], [f"{tick:,.10g}" for tick in ticks])


def _draw_panel(axes: "Axes", panel: _Panel, steps: Sequence[_Step]) -> None:
    for step in steps:
        axes.axvline(step.began, color=QUIET, linewidth=0.9, linestyle=(0, (1, 2)))
        if step.window is not None:
            axes.axvspan(*step.window, color=QUIET, alpha=0.1, linewidth=0)
    for (name, (at, values)), colour in zip(panel.lines.items(), (BLUE, ORANGE), strict=False):
        if np.isfinite(values).any():
            _draw_line(axes, at, values, colour, name, is_sampled=panel.is_sampled)
    highest = max(float(np.nanmax(values)) for _, values in panel.lines.values() if np.isfinite(values).any())
    from_zero(axes.set_ylim, max(1.15 * highest, panel.top))
    axes.set_ylabel(panel.label, fontsize=8.5)
    axes.locator_params(axis="y", nbins=4)
    axes.tick_params(labelsize=8.5)
    plain(axes.yaxis)


def _draw_line(axes: "Axes", at: Floats, values: Floats, colour: str, name: str, *, is_sampled: bool) -> None:
    """Draw a line; a value without neighbours is a dot, as it would not show without one, and so are all samples."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    dotted = known[1:-1] if is_sampled else known[1:-1] & ~known[:-2] & ~known[2:]
    axes.plot(at, values, color=colour, linewidth=0.7 if is_sampled else 1.4, label=name or None)
    axes.plot(at[dotted], values[dotted], "o", color=colour, markersize=2.8)


def _name_steps(axes: "Axes", steps: Sequence[_Step]) -> None:
    """Write the users of each step above the first panel, where there is room."""
    right, last = axes.get_xlim()[1], -np.inf
    style: dict[str, Any] = {"fontsize": 8.5, "color": QUIET}
    for step in steps:
        if step.began / right - last >= _LETTERS_APART:
            axes.annotate(f"{step.users:,}", (step.began, 1.02), xycoords=("data", "axes fraction"), **style)
            last = step.began / right
    if steps:
        axes.annotate("users", (-0.01, 1.02), xycoords="axes fraction", ha="right", **style)

"""Latencies by the names that users' code gives its requests."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from loadgen.measure.names import label
from loadgen.metrics import FROM_SEND, Metric
from loadgen.printable import escaped, middle_cut
from loadgen.results.pictures.drawing import BLUE, ORANGE, Picture, legend, scale
from loadgen.results.run_data import Run
from loadgen.results.summary_schema import NameSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NAMES = 12
_LETTERS = 36
_ROW_IN, _REST_IN = 0.28, 1.2


def by_name(run: Run) -> list[Picture]:
    """Return the picture of TTFT and E2E by name; none where fewer than two names have latencies."""
    metrics = [m for m in FROM_SEND if any(_median(figures, m.key) for figures in run.summary.by_name.values())]
    known = {
        name: figures for name, figures in run.summary.by_name.items() if any(_median(figures, m.key) for m in metrics)
    }
    if len(known) < 2:  # noqa: PLR2004 one name's figures are the run's
        return []
    shown = dict(list(known.items())[:MOST_NAMES])
    note = "Circle: p50; square: p95, where a name has enough answers for it."
    if len(known) > len(shown):
        note += f" The {MOST_NAMES} most frequent names."
    draw = partial(_draw, shown, metrics)
    return [Picture("latency-names", "Latency by name", note, draw, height_in=_REST_IN + _ROW_IN * len(shown))]


def _median(figures: NameSummary, key: str) -> float | None:
    return figures.latency[key].p50 if key in figures.latency else None


def _draw(names: Mapping[str, NameSummary], metrics: Sequence[Metric], figure: "Figure") -> None:
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    rows = list(range(len(names)))[::-1]
    for axes, metric in zip(panels, metrics, strict=True):
        values = {p: [_percentile(figures, metric.key, p) for figures in names.values()] for p in ("p50", "p95")}
        for row, low, high in zip(rows, values["p50"], values["p95"], strict=True):
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color=BLUE, linewidth=2, alpha=0.5)
        for (p, of_p), colour, mark in zip(values.items(), (BLUE, ORANGE), "os", strict=True):
            points = [(value, row) for value, row in zip(of_p, rows, strict=True) if value is not None]
            if points:
                axes.plot(*zip(*points, strict=True), mark, color=colour, markersize=5.5, label=p)
        scale(axes, "x", [v for of_p in values.values() for v in of_p if v is not None], metric.heading)
        axes.set_ylim(-0.6, len(names) - 0.4)
    panels[0].set_yticks(rows, [middle_cut(escaped(label(name)), _LETTERS) for name in names])
    legend(panels[0])


def _percentile(figures: NameSummary, key: str, p: str) -> float | None:
    return figures.latency[key].percentile(p) if key in figures.latency else None

"""Pictures of a matrix: bars for each of its tables, and the throughput of all engines by interactivity."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from loadgen.matrix.entries import SPEED, THROUGHPUT, Figure, Measure, figure
from loadgen.matrix.result import Result
from loadgen.matrix.verdicts import runs_of
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND
from loadgen.printable import escaped, middle_cut
from loadgen.results.pictures.by_concurrency import Point, draw_curve, interactivity_points, name_points
from loadgen.results.pictures.drawing import COLOURS, INK, Picture, from_zero, legend, plain
from loadgen.results.text import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

_BAR_IN, _REST_IN = 0.26, 0.9
_HEADING_BARS, _BETWEEN_BARS = 0.8, 1.0
"""How far a model's name is above its first bar, and the room between models, in bars."""
_ACROSS, _PANEL_IN = 2, 3.3
_LETTERS = 34
_MARKS = "osD^vP"

Bars = Sequence[tuple[str, Sequence[Figure]]]
"""Models, each with a figure for every engine that has one."""


def pictures(results: Sequence[Result]) -> tuple[Picture, ...]:
    """Return the pictures for which there are figures."""
    found = [_bars(measure, results) for measure in (SPEED, THROUGHPUT)]
    return tuple(picture for picture in (*found, _interactivity(results)) if picture is not None)


def _bars(measure: Measure, results: Sequence[Result]) -> Picture | None:
    groups: dict[str, list[Figure]] = {}
    for result in results:
        of = figure(measure, result)
        if of.spread is not None:
            groups.setdefault(result.model, []).append(of)
    count = sum(map(len, groups.values()))
    if not count:
        return None
    note = "Whiskers: 95 % intervals, as in the table."
    if any(not of.usable for figures in groups.values() for of in figures):
        note += " Pale: neither VALID nor WARN."
    height = _REST_IN + _BAR_IN * (count + _BETWEEN_BARS * len(groups))
    draw = partial(
        _draw_bars, tuple(groups.items()), measure.title.partition(", ")[2] or measure.title, _engines(results)
    )
    return Picture(measure.key, measure.title, note, draw, height_in=max(height, 1.6))


def _engines(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.engine for result in results))


def _draw_bars(groups: Bars, label: str, engines: Sequence[str], drawing: "Drawing") -> None:
    axes = drawing.subplots()
    ticks: dict[float, str] = {}
    at, ends = 0.0, [0.0]
    for model, figures in groups:
        heading: dict[str, Any] = {"fontsize": 9.5, "fontweight": "bold", "va": "center", "annotation_clip": False}
        axes.annotate(_fitting(model), (0, at + _HEADING_BARS), **heading)
        for of in figures:
            assert of.result is not None
            engine = of.result.engine
            ends.append(_draw_bar(axes, of, at, COLOURS[engines.index(engine) % len(COLOURS)]))
            ticks[at] = _fitting(engine)
            at -= 1
        at -= _BETWEEN_BARS
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylim(at + _BETWEEN_BARS + 0.4, _HEADING_BARS + 0.4)
    axes.grid(visible=False, axis="y")
    from_zero(axes.set_xlim, 1.15 * max(ends))
    axes.set_xlabel(label)
    plain(axes.xaxis)


def _draw_bar(axes: "Axes", of: Figure, at: float, colour: str) -> float:
    """Draw a figure with its interval, and its value after it; return where the interval ends."""
    assert of.spread is not None
    value, ci95 = of.spread.value, of.spread.ci95
    axes.barh(at, value, height=0.72, color=colour, alpha=0.85 if of.usable else 0.3)
    if ci95 is not None:
        arms = [[max(0.0, value - ci95[0])], [max(0.0, ci95[1] - value)]]
        axes.errorbar(value, at, xerr=arms, color=INK, elinewidth=1.25, capsize=3)
    end = max(value, *(ci95 or (value,)))
    style: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
    axes.annotate(short(value), (end, at), **style)
    return end


def _interactivity(results: Sequence[Result]) -> Picture | None:
    panels: dict[str, dict[str, Sequence[Point]]] = {}
    for result in results:
        runs = runs_of(result.throughput)
        points = interactivity_points(runs.counted[0].steps or (), 1 / result.time_factor) if runs is not None else []
        if len(points) > 1:
            panels.setdefault(result.model, {})[result.engine] = points
    if not panels:
        return None
    note = "A line per engine, a point per step, with its users. Up and to the right is better."
    note += " Whiskers: 95 % intervals."
    if any(len(result.throughput) > 1 for result in results):
        note += " Of repeats the first that counts."
    rows = -(-len(panels) // _ACROSS)
    draw = partial(_draw_interactivity, panels, _engines(results))
    return Picture(
        "interactivity", "Throughput by interactivity, all engines", note, draw, height_in=0.5 + _PANEL_IN * rows
    )


def _draw_interactivity(
    panels: Mapping[str, Mapping[str, Sequence[Point]]], engines: Sequence[str], drawing: "Drawing"
) -> None:
    across = min(_ACROSS, len(panels))
    grid = drawing.subplots(-(-len(panels) // across), across, squeeze=False).ravel()
    for axes, (model, lines) in zip(grid, panels.items(), strict=False):
        for engine, points in lines.items():
            i = engines.index(engine)
            draw_curve(axes, points, COLOURS[i % len(COLOURS)], _MARKS[i % len(_MARKS)], _fitting(engine))
        _limits(axes, [point for points in lines.values() for point in points])
        for points in lines.values():
            name_points(axes, points, (6, 6))
        axes.set_title(_fitting(model), loc="left", fontsize=9.5, fontweight="bold", y=1.09)
        axes.set_xlabel("interactivity: tokens/s per user")
        axes.set_ylabel(f"{OUTPUT_TOKENS_PER_SECOND.label} of the engine")
        legend(axes, columns=3)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)


def _limits(axes: "Axes", points: Sequence[Point]) -> None:
    from_zero(axes.set_xlim, 1.2 * max(x for _, (x, _), _ in points))
    from_zero(axes.set_ylim, 1.2 * max(y for _, _, (y, _) in points))
    plain(axes.xaxis)
    plain(axes.yaxis)


def _fitting(name: str) -> str:
    return middle_cut(escaped(name), _LETTERS)

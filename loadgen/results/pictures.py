"""Pictures of a throughput run, for the page and as PNG. A step that is not steady has a hollow mark.

Names of models and the like are drawn as plain text: never as mathematics, and escaped in SVG.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO, StringIO
from math import nan
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from loadgen.metrics import E2E, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TPOT, TTFT
from loadgen.printable import escaped
from loadgen.results.summary_schema import KneeSummary, StepSummary, Summary
from loadgen.results.text import subject_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Bounds = Sequence[float] | None
Estimate = tuple[float, Bounds]
"""A value and its 95 % interval."""
Point = tuple[StepSummary, Estimate, Estimate]
"""A step with where it is drawn, across and up."""
FigureOf = Callable[[StepSummary], Estimate | None]

FEWEST = 2
"""One point is no curve."""

_FIRST, _SECOND, _INK, _QUIET, _GRID, _PAGE = "#0067a5", "#c84e00", "#1b1c1e", "#676a70", "#e4e4e1", "#ffffff"
_IN_THE_PAGE = {
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
    _INK: "currentColor",
    _QUIET: "var(--quiet)",
    _GRID: "var(--grid)",
    _PAGE: "var(--page)",
}
"""So that a page can be light or dark."""

_SIZE_IN = (9.0, 3.9)
_DPI = 160
_POINTS_PER_INCH = 100
"""While a picture is drawn."""
_LETTER_IN = (0.085, 0.15)
"""Width and height of a letter beside a point."""
_LOGARITHMIC_FROM = 30
"""Ratio of the greatest to the least latency from which their axis is logarithmic."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture not yet drawn: what it is called, what it says, and how it is drawn."""

    name: str
    title: str
    note: str
    heading: str
    draw: Callable[["Figure"], None]


def pictures(summary: Summary) -> list[Picture]:
    """Return the pictures of a run: none where it has fewer than two steps with a figure."""
    steps = [step for step in summary.steps or () if _rate(step)]
    if len(steps) < FEWEST:
        return []
    heading = (
        f"{shorten(escaped(subject_of(summary).title), 110)}\n{summary.verdict.status.value}, run {summary.run_id}"
    )
    hollow = " Hollow: not steady." if any(step.steady is False for step in steps) else ""
    knee = None if summary.throughput is None else summary.throughput.knee
    found = [
        Picture(
            "throughput-concurrency",
            "Throughput by concurrency",
            _knee_note(knee) + hollow,
            heading,
            partial(_throughput_concurrency, steps, knee),
        )
    ]
    if sum(_latency(step, TTFT.key, "p50") is not None for step in steps) >= FEWEST:
        note = "Beside each point the concurrent users. Bars: 95 % intervals."
        draw = partial(_throughput_latency, steps)
        found.append(Picture("throughput-latency", "Latency by throughput", note + hollow, heading, draw))
    if sum(_interactivity(step) is not None and _tokens(step) is not None for step in steps) >= FEWEST:
        note = (
            "Interactivity: 1,000 / TPOT p50, the tokens per second that one user sees. Up and to the right is better."
        )
        draw = partial(_throughput_interactivity, steps)
        found.append(Picture("throughput-interactivity", "Throughput by interactivity", note + hollow, heading, draw))
    return found


def svg(picture: Picture) -> str:
    """Return a picture as an SVG element for a page that has our colours as variables; refers to nothing outside."""
    from matplotlib.figure import Figure

    with _settings(picture.name):
        figure = Figure(figsize=_SIZE_IN, layout="constrained", facecolor="none")
        picture.draw(figure)
        file = StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r"<svg [^>]*?(viewBox=\"[\d. ]+\")[^>]*>", rf'<svg \1 role="img" aria-label="{picture.title}">', text, count=1
    )
    text = re.sub(r"<style [^>]*>.*?</style>", "", text, flags=re.DOTALL)  # would hold for the whole page
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every picture, and nothing refers to them
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)  # the page's
    for colour, variable in _IN_THE_PAGE.items():
        text = text.replace(f": {colour}", f": {variable}")
    return text.strip()


def png(picture: Picture) -> bytes:
    """Return a picture as PNG, with a heading: it travels alone."""
    from matplotlib.figure import Figure

    with _settings(picture.name):
        figure = Figure(figsize=_SIZE_IN, layout="constrained", facecolor=_PAGE)
        picture.draw(figure)
        figure.suptitle(picture.heading, x=0.01, ha="left", fontsize=9, color=_QUIET)
        file = BytesIO()
        figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


@contextmanager
def _settings(name: str) -> Iterator[None]:
    """Draw the same twice, and keep identifiers of one picture apart from those of another on the same page."""
    import matplotlib as mpl

    ours: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "figure.dpi": _POINTS_PER_INCH,
        "font.size": 10,
        "text.color": _INK,
        "text.parse_math": False,
        "axes.edgecolor": _QUIET,
        "axes.facecolor": "none",
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": _GRID,
        "xtick.color": _QUIET,
        "ytick.color": _QUIET,
        "legend.frameon": False,
    }
    with mpl.rc_context(ours), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may have letters that the font lacks
        yield


def _throughput_latency(steps: Sequence[StepSummary], figure: "Figure") -> None:
    """Draw TTFT and E2E, p50 and p99, over throughput."""
    first, second = figure.subplots(1, 2)
    by_tokens = sum(_tokens(step) is not None for step in steps) >= FEWEST
    for axes, metric in ((first, TTFT), (second, E2E)):
        lines = {
            p: _known(steps, _tokens if by_tokens else _rate, partial(_latency, name=metric.key, p=p))
            for p in ("p50", "p99")
        }
        for (p, points), colour, mark in zip(lines.items(), (_FIRST, _SECOND), "os", strict=True):
            if points:
                _curve(axes, points, colour, mark, p)
        drawn = lines["p50"] or lines["p99"]
        _latency_axis(axes, [y[0] for points in lines.values() for _, _, y in points], metric.heading)
        _throughput_axis(axes, (OUTPUT_TOKENS_PER_SECOND if by_tokens else REQUESTS_PER_MINUTE).label, drawn)
        if drawn:
            _name_points(axes, drawn, (7, -12))
            _legend(axes)


def _throughput_interactivity(steps: Sequence[StepSummary], figure: "Figure") -> None:
    """Draw the throughput of the engine over the speed that one of its users sees."""
    axes = figure.subplots()
    points = _known(steps, _interactivity, _tokens)
    _curve(axes, points, _FIRST, "o", "")
    _throughput_axis(axes, "interactivity: tokens/s per user", points)
    _from_zero(axes.set_ylim, 1.12 * max(y[0] for _, _, y in points))
    axes.set_ylabel(f"{OUTPUT_TOKENS_PER_SECOND.label} of the engine")
    _plain(axes.yaxis)
    _name_points(axes, points, (7, 7))


def _throughput_concurrency(steps: Sequence[StepSummary], knee: KneeSummary | None, figure: "Figure") -> None:
    """Draw requests/min over concurrent users, with what bounds it, and those answered within the limits."""
    axes = figure.subplots()
    points = _known(steps, lambda step: (step.concurrency, None), _rate)
    users, most = [step.concurrency for step, _, _ in points], max(y[0] for _, _, y in points)
    axes.set_xscale("log", base=2)
    axes.set_xlim(users[0] / 1.3, users[-1] * 1.3)
    _from_zero(axes.set_ylim, 1.2 * most)
    if knee is not None:
        _draw_knee(axes, knee, (users[0] / 1.3, users[-1] * 1.3))
    good = _known(steps, lambda step: (step.concurrency, None), _good)
    if good:
        slo = shorten(str(good[0][0].goodput and good[0][0].goodput.slo), 60)
        _curve(axes, good, _SECOND, "s", f"those within {slo}")
    _curve(axes, points, _FIRST, "o", REQUESTS_PER_MINUTE.label)
    axes.set_xticks(users, [f"{n:,}" for n in users])
    axes.minorticks_off()
    axes.set_xlabel("concurrent users (logarithmic)")
    axes.set_ylabel(REQUESTS_PER_MINUTE.label)
    _plain(axes.yaxis)
    _legend(axes)


def _draw_knee(axes: "Axes", knee: KneeSummary, ends: tuple[float, float]) -> None:
    """Shade where the knee is, and draw the two lines that throughput cannot exceed."""
    left, right = max(knee.between[0], ends[0]), knee.between[1]
    axes.axvspan(left, right, color=_QUIET, alpha=0.14, linewidth=0, label="knee between these steps")
    if knee.per_user and knee.highest:
        users = [ends[0] * (ends[1] / ends[0]) ** (i / 100) for i in range(101)]
        style: dict[str, Any] = {"color": _QUIET, "linewidth": 1, "linestyle": (0, (4, 3))}
        axes.plot(users, [n * knee.per_user for n in users], **style, label="if users never waited; highest")
        axes.plot(ends, [knee.highest] * 2, **style)


def _curve(axes: "Axes", points: Sequence[Point], colour: str, mark: str, label: str) -> None:
    """Draw points with their intervals, joined in the order of their concurrency."""
    xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
    axes.errorbar(
        [x for x, _ in xs],
        [y for y, _ in ys],
        xerr=_arms(xs),
        yerr=_arms(ys),
        color=colour,
        marker=mark,
        markersize=5.5,
        linewidth=1.5,
        elinewidth=1.25,
        capsize=3,
        label=label or None,
    )
    hollow = [(x[0], y[0]) for step, x, y in points if step.steady is False]
    if hollow:
        axes.plot(
            [x for x, _ in hollow],
            [y for _, y in hollow],
            mark,
            markersize=5.5,
            markerfacecolor=_PAGE,
            markeredgecolor=colour,
            markeredgewidth=1.5,
            zorder=5,
        )


def _name_points(axes: "Axes", points: Sequence[Point], offset: tuple[int, int]) -> None:
    """Write the concurrency beside each point; where names would touch, the first and the last of those."""
    users = [step.concurrency for step, _, _ in points]
    places = axes.transData.transform([(x[0], y[0]) for _, x, y in points]) / _POINTS_PER_INCH
    groups: list[tuple[int, int]] = []
    for i, place in enumerate(places):
        if groups:
            first, last = groups[-1]
            across, up = abs(place - places[last])
            longest = max(len(_name(users[first], users[last])), len(_name(users[i], users[i])))
            if across < _LETTER_IN[0] * (longest + 1) and up < _LETTER_IN[1]:
                groups[-1] = first, i
                continue
        groups.append((i, i))
    for first, last in groups:
        _, (x, _), (y, _) = points[last]
        axes.annotate(
            _name(users[first], users[last]),
            (x, y),
            xytext=offset,
            textcoords="offset points",
            fontsize=9,
            fontweight="bold",
        )


def _name(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _latency_axis(axes: "Axes", values: Sequence[float], label: str) -> None:
    from matplotlib.ticker import LogLocator

    wide = bool(values) and min(values) > 0 and max(values) > _LOGARITHMIC_FROM * min(values)
    if wide:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
    elif values:
        _from_zero(axes.set_ylim, 1.25 * max(values))
    axes.set_ylabel(f"{label} (logarithmic)" if wide else label)
    _plain(axes.yaxis)


def _throughput_axis(axes: "Axes", label: str, points: Sequence[Point]) -> None:
    from matplotlib.ticker import MaxNLocator

    if points:
        _from_zero(axes.set_xlim, 1.18 * max(x[0] for _, x, _ in points))
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5))  # 14,000 and 16,000 side by side would touch
    _plain(axes.xaxis)


def _legend(axes: "Axes") -> None:
    """Put a legend above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2, reverse=True)


def _from_zero(set_limits: Callable[[float, float], object], most: float) -> None:
    """Let an axis begin at 0, and have a length even where nothing but 0 is shown."""
    set_limits(0, most or 1.0)


def _plain(axis: Any) -> None:  # noqa: ANN401 matplotlib's two kinds of axis share no public type
    """Write 12,000 and 0.5, never 1.2e4."""
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _known(
    steps: Sequence[StepSummary],
    across: FigureOf,
    up: FigureOf,
) -> list[Point]:
    """Return the steps that have both figures, by their concurrency."""
    ordered = sorted(steps, key=lambda step: float(step.concurrency))
    return [(step, x, y) for step in ordered if (x := across(step)) is not None and (y := up(step)) is not None]


def _arms(estimates: Sequence[Estimate]) -> list[list[float]] | None:
    """Return how far the intervals reach down and up; nan, of which nothing is drawn, where there is none."""
    if all(bounds is None for _, bounds in estimates):
        return None
    arms = [
        (nan, nan) if bounds is None else (max(0.0, value - bounds[0]), max(0.0, bounds[1] - value))
        for value, bounds in estimates
    ]
    return [[below for below, _ in arms], [above for _, above in arms]]


def _rate(step: StepSummary) -> Estimate | None:
    rate = step.requests_per_minute
    return None if rate is None or rate.value is None else (rate.value, rate.ci95)


def _good(step: StepSummary) -> Estimate | None:
    return None if step.goodput is None else (step.goodput.requests_per_minute, None)


def _tokens(step: StepSummary) -> Estimate | None:
    value = step.output_tokens_per_second
    return None if value is None else (value, step.output_tokens_per_second_ci95)


def _latency(step: StepSummary, name: str, p: str) -> Estimate | None:
    of = step.latency.get(name)
    value = None if of is None else of.percentile(p)
    return None if of is None or value is None else (value, of.interval(p))


def _interactivity(step: StepSummary) -> Estimate | None:
    tpot = _latency(step, TPOT.key, "p50")
    if tpot is None or tpot[0] <= 0:
        return None
    value, bounds = tpot
    return 1e3 / value, None if bounds is None or bounds[0] <= 0 else (1e3 / bounds[1], 1e3 / bounds[0])


def _knee_note(knee: KneeSummary | None) -> str:
    bars = "Bars: 95 % intervals."
    return bars if knee is None else f"{bars} Shaded: {knee.text}."

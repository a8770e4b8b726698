"""Pictures of a run with several steps, by concurrent users. Steps that are not steady have hollow marks."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import nan
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from loadgen.metrics import E2E, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE, TPOT, TTFT, Metric
from loadgen.results.pictures.drawing import (
    BLUE,
    DASHED,
    ORANGE,
    PAGE,
    POINTS_PER_INCH,
    QUIET,
    Picture,
    from_zero,
    legend,
    plain,
    scale,
)
from loadgen.results.summary_schema import KneeSummary, StepSummary, Summary

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

WHISKERS = (
    "Whiskers: 95 % intervals; those of medians of few independent answers are at least ±10 %, as an engine's pace may "
    "wander unseen."
)

_LETTER_IN = (0.085, 0.15)
"""Width and height of a letter next to a point."""
_TICKS_APART = 1.2
"""Ratio of two numbers of users from which both have a label on the axis: closer ones would touch."""


def by_concurrency(summary: Summary) -> list[Picture]:
    """Return the pictures of a run's steps: none where fewer than two have a figure."""
    steps = [step for step in summary.steps or () if _rate(step)]
    if len(steps) < FEWEST:
        return []
    hollow = " Hollow: not steady." if any(step.steady is False for step in steps) else ""
    knee = None if summary.throughput is None else summary.throughput.knee
    found = [
        Picture(
            "throughput-concurrency",
            "Throughput by concurrent users",
            _knee_note(knee) + hollow,
            partial(_throughput_concurrency, steps, knee),
        )
    ]
    latencies = [m for m in (TTFT, TPOT) if sum(_latency(step, m.key, "p50") is not None for step in steps) >= FEWEST]
    if latencies:
        note = f"{WHISKERS} A percentile is missing where a step has too few answers for it." + hollow
        draw = partial(_latency_concurrency, steps, latencies)
        found.append(Picture("latency-concurrency", "Latency by concurrent users", note, draw))
    if sum(_latency(step, TTFT.key, "p50") is not None for step in steps) >= FEWEST:
        note = f"Next to each point the concurrent users. {WHISKERS}" + hollow
        draw = partial(_throughput_latency, steps)
        found.append(Picture("throughput-latency", "Latency by throughput", note, draw))
    if sum(_interactivity(step) is not None and _tokens(step) is not None for step in steps) >= FEWEST:
        note = (
            "Interactivity: 1,000 / TPOT p50, the tokens per second that one user sees. Up and to the right is better. "
            f"{WHISKERS}"
        )
        draw = partial(_throughput_interactivity, steps)
        found.append(Picture("throughput-interactivity", "Throughput by interactivity", note + hollow, draw))
    return found


def _throughput_latency(steps: Sequence[StepSummary], figure: "Figure") -> None:
    """Draw TTFT and E2E, p50 and p99, over throughput."""
    first, second = figure.subplots(1, 2)
    by_tokens = sum(_tokens(step) is not None for step in steps) >= FEWEST
    for axes, metric in ((first, TTFT), (second, E2E)):
        lines = {
            p: _known(steps, _tokens if by_tokens else _rate, partial(_latency, name=metric.key, p=p))
            for p in ("p50", "p99")
        }
        for (p, points), colour, mark in zip(lines.items(), (BLUE, ORANGE), "os", strict=True):
            if points:
                draw_curve(axes, points, colour, mark, p)
        drawn = lines["p50"] or lines["p99"]
        scale(axes, "y", _extents(lines.values()), metric.heading)
        _throughput_axis(axes, (OUTPUT_TOKENS_PER_SECOND if by_tokens else REQUESTS_PER_MINUTE).label, drawn)
        if drawn:
            name_points(axes, drawn, (7, -12))
            legend(axes)


def _throughput_interactivity(steps: Sequence[StepSummary], figure: "Figure") -> None:
    """Draw the throughput of the engine over the speed that one of its users sees."""
    axes = figure.subplots()
    points = interactivity_points(steps)
    draw_curve(axes, points, BLUE, "o", "")
    _throughput_axis(axes, "interactivity: tokens/s per user", points)
    from_zero(axes.set_ylim, 1.12 * _highest(points))
    axes.set_ylabel(f"{OUTPUT_TOKENS_PER_SECOND.label} of the engine")
    plain(axes.yaxis)
    name_points(axes, points, (7, 7))


def _throughput_concurrency(steps: Sequence[StepSummary], knee: KneeSummary | None, figure: "Figure") -> None:
    """Draw requests/min over concurrent users, with what bounds it, and those answered within the limits."""
    axes = figure.subplots()
    points = _known(steps, _users, _rate)
    ends = _users_axis(axes, [step.concurrency for step, _, _ in points])
    from_zero(axes.set_ylim, 1.1 * _highest(points))
    if knee is not None:
        _draw_knee(axes, knee, ends)
    draw_curve(axes, points, BLUE, "o", REQUESTS_PER_MINUTE.label)
    good = _known(steps, _users, _good)
    if good:  # on top and smaller: mostly it is the same
        slo = shorten(str(good[0][0].goodput and good[0][0].goodput.slo), 60)
        values = [y for _, _, (y, _) in good]
        style: dict[str, Any] = {"color": ORANGE, "linestyle": DASHED, "linewidth": 1.2, "markersize": 3.5}
        axes.plot([step.concurrency for step, _, _ in good], values, marker="s", label=f"those within {slo}", **style)
    axes.set_ylabel(REQUESTS_PER_MINUTE.label)
    plain(axes.yaxis)
    legend(axes)


def _latency_concurrency(steps: Sequence[StepSummary], metrics: Sequence[Metric], figure: "Figure") -> None:
    """Draw p50 and p95 of latencies over concurrent users, a panel for each latency."""
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        lines = {p: _known(steps, _users, partial(_latency, name=metric.key, p=p)) for p in ("p50", "p95")}
        for (p, points), colour, mark in zip(lines.items(), (BLUE, ORANGE), "os", strict=True):
            if points:
                draw_curve(axes, points, colour, mark, p)
        _users_axis(axes, sorted({step.concurrency for points in lines.values() for step, _, _ in points}))
        scale(axes, "y", _extents(lines.values()), metric.heading)
        legend(axes)


def _users_axis(axes: "Axes", users: Sequence[int]) -> tuple[float, float]:
    """Make the horizontal axis one of concurrent users; return its ends."""
    ends = users[0] / 1.3, users[-1] * 1.3
    axes.set_xscale("log", base=2)
    axes.set_xlim(*ends)
    labelled = [n for i, n in enumerate(users) if not i or n >= _TICKS_APART * users[i - 1]]
    axes.set_xticks(labelled, [f"{n:,}" for n in labelled])
    axes.minorticks_off()
    axes.set_xlabel("concurrent users (logarithmic)")
    return ends


def interactivity_points(steps: Sequence[StepSummary], scale_by: float = 1.0) -> list[Point]:
    """Return the steps that have both, by interactivity and output tokens/s, each times ``scale_by``."""
    points = _known(steps, _interactivity, _tokens)
    return [(step, _times(x, scale_by), _times(y, scale_by)) for step, x, y in points]


def _times(estimate: Estimate, by: float) -> Estimate:
    value, bounds = estimate
    return by * value, None if bounds is None else [by * end for end in bounds]


def _draw_knee(axes: "Axes", knee: KneeSummary, ends: tuple[float, float]) -> None:
    """Shade where the knee is, and draw the two lines that throughput cannot exceed."""
    left, right = max(knee.between[0], ends[0]), knee.between[1]
    axes.axvspan(left, right, color=QUIET, alpha=0.14, linewidth=0, label="knee between these steps")
    if knee.per_user and knee.highest:
        users = [ends[0] * (ends[1] / ends[0]) ** (i / 100) for i in range(101)]
        style: dict[str, Any] = {"color": QUIET, "linewidth": 1, "linestyle": DASHED}
        axes.plot(users, [n * knee.per_user for n in users], **style, label="if users never waited")
        axes.plot(ends, [knee.highest] * 2, **(style | {"linestyle": ":"}), label="highest")


def draw_curve(axes: "Axes", points: Sequence[Point], colour: str, mark: str, label: str) -> None:
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
            markerfacecolor=PAGE,
            markeredgecolor=colour,
            markeredgewidth=1.5,
            zorder=5,
        )


def name_points(axes: "Axes", points: Sequence[Point], offset: tuple[int, int]) -> None:
    """Write the concurrency next to each point; where names would touch, the first and the last of those."""
    users = [step.concurrency for step, _, _ in points]
    places = axes.transData.transform([(x[0], y[0]) for _, x, y in points]) / POINTS_PER_INCH
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


def _highest(points: Sequence[Point]) -> float:
    """Return the highest end of an interval, or value."""
    return max(_extents([points]))


def _extents(lines: Iterable[Sequence[Point]]) -> list[float]:
    """Return all values, with the ends of their intervals."""
    return [end for points in lines for _, _, (value, bounds) in points for end in (value, *(bounds or ()))]


def _name(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


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


def _throughput_axis(axes: "Axes", label: str, points: Sequence[Point]) -> None:
    from matplotlib.ticker import MaxNLocator

    if points:
        from_zero(axes.set_xlim, 1.18 * max(x[0] for _, x, _ in points))
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(5))  # 14,000 and 16,000 side by side would touch
    plain(axes.xaxis)


def _users(step: StepSummary) -> Estimate:
    return step.concurrency, None


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
    bars = "Whiskers: 95 % intervals."
    return bars if knee is None else f"{bars} Shaded: {knee.text}."

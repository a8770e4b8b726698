"""How the latencies of a run are distributed: the share of its requests that were at most that slow (ECDF)."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from loadgen.measure.columns import Floats
from loadgen.measure.load import Window, belonging_to
from loadgen.measure.records import Records
from loadgen.metrics import FROM_SEND, LIMITS, Metric
from loadgen.printable import counted
from loadgen.results.pictures.drawing import COLOURS, DASHED, QUIET, SHARE, Picture, draw_ecdf, scale
from loadgen.results.rate import by_schedule
from loadgen.results.run_data import Run
from loadgen.slo import parse_slo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 10
"""Answers, below which a distribution has no shape."""
MOST_LINES = 5
_NEAR = 2.5
"""Times the largest value, up to which a limit is drawn."""

Lines = Mapping[str, Floats]
"""Values by what they are of."""


def distributions(run: Run) -> list[Picture]:
    """Return the picture of TTFT, TPOT and E2E; none where the run has too few answers."""
    by_metric = {metric: lines for metric in LIMITS if (lines := _lines(run, metric))}
    if not by_metric:
        return []
    limits = parse_slo(run.manifest.scenario["slo"]).limits if run.manifest.scenario.get("slo") else {}
    near, far = _by_distance({m: limits[m.key] for m in by_metric if m.key in limits}, by_metric)
    note = "Share of the answers that were at most that slow; a steep line is an even service. Axes do not begin at 0."
    note += " Dashed: the limit of --slo." if near else ""
    if far:
        note += f" Limits beyond the axes: {', '.join(f'{m.label} {limit:g} ms' for m, limit in far.items())}."
    drawn = {users for users, _ in _steps(run)}
    if left_out := [f"{s.concurrency:,}" for s in run.manifest.steps if s.window_ns and s.concurrency not in drawn]:
        note += f" Not shown: {', '.join(left_out)} users."
    draw = partial(_draw, by_metric, near)
    return [Picture("latency-distribution", "Distribution of latencies", note, draw)]


def _by_distance(
    limits: Mapping[Metric, float], by_metric: Mapping[Metric, Lines]
) -> tuple[dict[Metric, float], dict[Metric, float]]:
    """Return the limits that can be drawn, and those so far beyond all values that these would be one line."""
    largest = {metric: max(float(values.max()) for values in lines.values()) for metric, lines in by_metric.items()}
    near = {metric: limit for metric, limit in limits.items() if limit <= _NEAR * largest[metric]}
    return near, {metric: limit for metric, limit in limits.items() if metric not in near}


def _lines(run: Run, metric: Metric) -> Lines:
    found = {name: records.known_figures(metric) for name, records in _groups(run, metric).items()}
    return {name: values for name, values in found.items() if len(values) >= FEWEST}


def _groups(run: Run, metric: Metric) -> dict[str, Records]:
    """Return the answers of each line by its name: of a sweep those of its steps, of an open loop by both clocks."""
    if run.summary.is_sweep:
        return {counted(users, "user"): belonging_to(window, run.answers) for users, window in _steps(run)}
    if run.summary.rate is None:
        return {"": run.answers}
    schedule = {"from the schedule": by_schedule(run.answers)} if metric in FROM_SEND else {}
    return schedule | {"from the send": run.answers}


def _steps(run: Run) -> Sequence[tuple[int, Window]]:
    """Return the users and windows of at most :data:`MOST_LINES` steps, the first and the last among them."""
    known = sorted((s.concurrency, Window(*s.window_ns)) for s in run.manifest.steps if s.window_ns is not None)
    chosen = np.unique(np.linspace(0, len(known) - 1, MOST_LINES).round().astype(int)) if known else ()
    return [known[i] for i in chosen]


def _draw(by_metric: Mapping[Metric, Lines], limits: Mapping[Metric, float], figure: "Figure") -> None:
    panels = figure.subplots(1, len(by_metric), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for lines in by_metric.values() for name in lines))
    for axes, (metric, lines) in zip(panels, by_metric.items(), strict=True):
        for name, values in lines.items():
            draw_ecdf(axes, values, COLOURS[names.index(name) % len(COLOURS)], name or None)
        shown = list(lines.values())
        if metric in limits:
            axes.axvline(limits[metric], color=QUIET, linewidth=1.2, linestyle=DASHED)
            shown.append(np.array([limits[metric]]))
        scale(axes, "x", np.concatenate(shown), metric.heading, zero=False)
    panels[0].set_ylabel(SHARE)
    if len(names) > 1:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=MOST_LINES, fontsize=9)

"""How the latencies of a run are distributed: the share of its requests that were at most that slow (ECDF)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from loadgen.measure.columns import Floats
from loadgen.measure.load import Window, belonging_to
from loadgen.measure.records import Records
from loadgen.metrics import FROM_SEND, LIMITS, Metric
from loadgen.printable import counted
from loadgen.record import Outcome
from loadgen.results.pictures.drawing import COLOURS, QUIET, Picture, legend, scale
from loadgen.results.run_data import Run
from loadgen.slo import parse_slo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 5
"""Answers, below which a distribution has no shape."""
MOST_LINES = 5
_CORNERS = 400
"""Of a line: more do not show."""

Lines = Mapping[str, Floats]
"""Values by what they are of."""


def distributions(run: Run) -> list[Picture]:
    """Return the picture of TTFT, TPOT and E2E; none where the run has too few answers."""
    by_metric = {metric: lines for metric in LIMITS if (lines := _lines(run, metric))}
    if not by_metric:
        return []
    limits = parse_slo(run.manifest.scenario["slo"]).limits if run.manifest.scenario.get("slo") else {}
    note = "Share of the answers that were at most that slow; a steep line is an even service."
    note += " Dashed: the limit of --slo." if limits else ""
    draw = partial(_draw, by_metric, {metric: limits[metric.key] for metric in by_metric if metric.key in limits})
    return [Picture("latency-distribution", "Distribution of latencies", note, draw)]


def _lines(run: Run, metric: Metric) -> Lines:
    measured = run.requests.where(run.requests.equal("phase", "measure"))
    ok = measured.where(measured.equal("outcome", Outcome.OK))
    found = {name: figure(chosen) for name, chosen, figure in _groups(run, ok, metric)}
    return {name: values for name, values in found.items() if len(values) >= FEWEST}


def _groups(run: Run, ok: Records, metric: Metric) -> list[tuple[str, Records, Callable[[Records], Floats]]]:
    """Return names, records and how their values are read: of a sweep its steps, of an open loop both clocks."""
    from_send = partial(_values, metric=metric)
    if run.summary.is_sweep:
        return [(counted(users, "user"), belonging_to(window, ok), from_send) for users, window in _steps(run)]
    if run.summary.rate is not None and metric in FROM_SEND:
        return [("from the schedule", ok, partial(_from_schedule, metric=metric)), ("from the send", ok, from_send)]
    return [("", ok, from_send)]


def _steps(run: Run) -> Sequence[tuple[int, Window]]:
    """Return the users and windows of at most :data:`MOST_LINES` steps, the first and the last among them."""
    known = sorted((s.concurrency, Window(*s.window_ns)) for s in run.manifest.steps if s.window_ns is not None)
    chosen = np.unique(np.linspace(0, len(known) - 1, MOST_LINES).round().astype(int)) if known else ()
    return [known[i] for i in chosen]


def _values(records: Records, metric: Metric) -> Floats:
    return records.known_figures(metric)


def _from_schedule(records: Records, metric: Metric) -> Floats:
    """Return a latency that counts from the send, with the time that its request was late."""
    known = records.where_known("scheduled_ns", "sent_ns")
    late = (known.ints("sent_ns") - known.ints("scheduled_ns")) / 1e6
    found = known.figure(metric) + late
    return np.asarray(found[~np.isnan(found)])


def _draw(by_metric: Mapping[Metric, Lines], limits: Mapping[Metric, float], figure: "Figure") -> None:
    panels = figure.subplots(1, len(by_metric), sharey=True, squeeze=False)[0]
    names = list(dict.fromkeys(name for lines in by_metric.values() for name in lines))
    for axes, (metric, lines) in zip(panels, by_metric.items(), strict=True):
        for name, values in lines.items():
            colour = COLOURS[names.index(name) % len(COLOURS)]
            axes.plot(*corners(values), color=colour, linewidth=1.6, drawstyle="steps-post", label=name or None)
        shown = list(lines.values())
        if metric in limits:
            axes.axvline(limits[metric], color=QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
            shown.append(np.array([limits[metric]]))
        scale(axes, "x", np.concatenate(shown), metric.heading, zero=False)
        axes.set_ylim(0, 100)
    panels[0].set_ylabel("share of the answers, %")
    if len(names) > 1:
        legend(panels[0], columns=MOST_LINES)


def corners(values: Floats) -> tuple[Floats, Floats]:
    """Return the corners of an ECDF: all of few values, some evenly spread of many."""
    ordered = np.sort(values)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(_CORNERS, len(ordered))).astype(int))
    shares = 100 * (places + 1) / len(ordered)
    return np.concatenate([ordered[:1], ordered[places]]), np.concatenate([[0.0], shares])

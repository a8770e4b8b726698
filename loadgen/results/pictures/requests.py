"""Single requests of a run as points: over time by their outcome, and over the length of their input."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loadgen.clock import MS, SECOND
from loadgen.measure.columns import Floats
from loadgen.measure.load import Window, belonging_to
from loadgen.measure.records import Records
from loadgen.metrics import E2E, TTFT
from loadgen.printable import counted
from loadgen.record import Outcome
from loadgen.results.pictures.drawing import (
    BLUE,
    COLOURS,
    FEWEST_REQUESTS,
    ORANGE,
    QUIET,
    Picture,
    from_zero,
    legend,
    plain,
    scale,
    thinned,
)
from loadgen.results.run_data import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEWEST_LENGTHS = 5
"""Different lengths of input from which latency is drawn over them."""
_GROUPS, _FEWEST_OF_GROUP = 12, 10
"""Maximum number of points of the median line, and minimum number of requests per point."""
_SLOWEST = 50
"""Slowest answers, which are always drawn."""
_MARKS = "sD^vPX*"
"""Of the outcomes that are no answers."""


def over_time(run: Run) -> list[Picture]:
    """Return the picture of the requests over time, coloured by outcome; none of a few that all succeeded."""
    sent = run.measured.where_known("sent_ns", "end_ns")
    if not len(sent) or (len(sent) < FEWEST_REQUESTS and not run.summary.requests.failed):
        return []
    chosen, thin = _chosen(sent)
    note = "Each request at the time when it was sent, and how long it took until its answer was complete, or it ended."
    unsent = len(run.measured) - len(sent)
    note += thin + (f" {unsent:,} that were never sent are not shown." if unsent else "")
    return [Picture("requests", "Requests by outcome", note, partial(_draw_over_time, chosen, sent.tally("outcome")))]


def _chosen(sent: Records) -> tuple[Records, str]:
    """Return the requests that are drawn, failures first, and what of it the note says."""
    ordered = sent.sorted_by("sent_ns")
    is_ok = ordered.equal("outcome", Outcome.OK)
    ok, thin = thinned(int(is_ok.sum()))
    failed, thin_failed = thinned(int((~is_ok).sum()))
    slowest = np.argsort(np.where(is_ok, ordered.ints("end_ns") - ordered.ints("sent_ns"), -1))[-_SLOWEST:]
    places = np.concatenate([np.flatnonzero(~is_ok)[failed], np.flatnonzero(is_ok)[ok], slowest])
    words = thin.replace(" are drawn", f" complete answers are drawn, and the {_SLOWEST} slowest", 1)
    words += thin_failed.replace(" are", " others are", 1)
    return ordered.take(np.unique(places)), words


def _draw_over_time(sent: Records, counts: Mapping[Outcome, int], figure: "Figure") -> None:
    axes = figure.subplots()
    began = sent.ints("sent_ns")
    at, took = (began - began.min()) / SECOND, (sent.ints("end_ns") - began) / MS
    outcomes = sorted(sent.tally("outcome"), key=lambda outcome: outcome is not Outcome.OK)
    for i, outcome in enumerate(outcomes):
        mine = sent.equal("outcome", outcome)
        label = f"{outcome.value.replace('_', ' ')} ({counts[outcome]:,})"
        axes.plot(at[mine], took[mine], markeredgewidth=0, label=label, linestyle="", **_style(outcome, i))
    longest = max(float(at.max()), 1e-3)
    axes.set_xlim(-0.01 * longest, 1.02 * longest)
    axes.set_xlabel("sent, s after the first measured request")
    plain(axes.xaxis)
    scale(axes, "y", took, f"{E2E.label}, or time until it failed, ms")
    legend(axes, columns=5)


def _style(outcome: Outcome, number: int) -> dict[str, Any]:
    """Return how the points of an outcome are drawn; failures are larger, as there are few of them."""
    if outcome is Outcome.OK:
        return {"marker": "o", "color": BLUE, "markersize": 2.8, "alpha": 0.55}
    colour = QUIET if outcome is Outcome.ABORTED else COLOURS[1:][number % (len(COLOURS) - 1)]
    return {"marker": _MARKS[number % len(_MARKS)], "color": colour, "markersize": 5, "alpha": 0.9}


def over_input(run: Run) -> list[Picture]:
    """Return the picture of TTFT over input tokens; none where lengths are not known or hardly differ."""
    answers, where = _of_one_load(run)
    known = answers.where_known("input_tokens")
    ttft, tokens = known.figure(TTFT), known.ints("input_tokens").astype(float)
    tokens, ttft = tokens[~np.isnan(ttft)], ttft[~np.isnan(ttft)]
    if len(ttft) < FEWEST_REQUESTS or len(np.unique(tokens)) < _FEWEST_LENGTHS:
        return []
    order = np.argsort(tokens, kind="stable")
    places, thin = thinned(len(order))
    medians = _medians(tokens[order], ttft[order])
    note = f"Each point is a request{where}, its input as the server counted it.{thin}"
    note += " Line: medians of groups of similar length." if medians is not None else ""
    chosen = order[places]
    draw = partial(_draw_over_input, tokens[chosen], ttft[chosen], medians)
    return [Picture("ttft-input", "TTFT by length of the input", note, draw)]


def _medians(tokens: Floats, ttft: Floats) -> tuple[Floats, Floats] | None:
    """Return the medians of groups of neighbours; None where there are too few for two groups."""
    groups = min(_GROUPS, len(tokens) // _FEWEST_OF_GROUP)
    edges = np.unique(np.quantile(tokens, np.arange(1, groups) / groups)) if groups > 1 else np.array([])
    group_of = np.searchsorted(edges, tokens, side="right")  # equal lengths are in one group
    groups_found = np.unique(group_of)
    if len(groups_found) < 2:  # noqa: PLR2004 one point is no line
        return None
    across, up = (
        np.array([np.median(values[group_of == group]) for group in groups_found]) for values in (tokens, ttft)
    )
    return across, up


def _of_one_load(run: Run) -> tuple[Records, str]:
    """Return the answers that are drawn, and where they were sent: TTFT at different loads is not mixed."""
    best = run.summary.throughput
    if not run.summary.is_sweep or best is None or best.at_concurrency is None:
        return run.answers, ""
    windows = [s.window_ns for s in run.manifest.steps if s.concurrency == best.at_concurrency and s.window_ns]
    if not windows:
        return run.answers, " of any step"
    return belonging_to(Window(*windows[0]), run.answers), f" at {counted(best.at_concurrency, 'user')}"


def _draw_over_input(tokens: Floats, ttft: Floats, medians: tuple[Floats, Floats] | None, figure: "Figure") -> None:
    axes = figure.subplots()
    axes.plot(tokens, ttft, "o", color=BLUE, markersize=2.8, markeredgewidth=0, alpha=0.55, label="a request")
    if medians is not None:
        axes.plot(*medians, color=ORANGE, linewidth=1.6, marker="s", markersize=4, label="median")
    scale(axes, "x", tokens, "input tokens")
    scale(axes, "y", ttft, TTFT.heading)
    if axes.get_xscale() == "linear":
        from_zero(axes.set_xlim, 1.05 * float(tokens.max()))
    legend(axes)

"""Single requests of a run as points: over time by their outcome, and over the length of their input."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from loadgen.clock import MS, SECOND
from loadgen.measure.columns import Floats
from loadgen.measure.records import Records
from loadgen.metrics import E2E, TTFT
from loadgen.record import Outcome
from loadgen.results.pictures.drawing import (
    BLUE,
    COLOURS,
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

FEWEST = 10
_FEWEST_LENGTHS = 5
"""Different lengths of input from which latency is drawn over them."""
_GROUPS, _FEWEST_OF_GROUP = 12, 10
"""The median over the length of the input has at most this many points, of at least so many requests each."""
_MARKS = "sD^vPX*"
"""Of the outcomes that are no answers."""


def over_time(run: Run) -> list[Picture]:
    """Return the picture of the requests over time, coloured by outcome; none of a few that all succeeded."""
    measured = run.requests.where(run.requests.equal("phase", "measure"))
    sent = measured.where_known("sent_ns", "end_ns")
    if not len(sent) or (len(sent) < FEWEST and not run.summary.requests.failed):
        return []
    chosen, thin = _chosen(sent)
    note = "Each request at the time when it was sent, and how long it took until its answer was complete, or it ended."
    unsent = len(measured) - len(sent)
    note += thin + (f" {unsent:,} that were never sent are not shown." if unsent else "")
    return [Picture("requests", "Requests by outcome", note, partial(_draw_over_time, chosen, sent.tally("outcome")))]


def _chosen(sent: Records) -> tuple[Records, str]:
    """Return the requests that are drawn, failures first, and what of it the note says."""
    ordered = sent.sorted_by("sent_ns")
    is_ok = ordered.equal("outcome", Outcome.OK)
    ok, thin = thinned(int(is_ok.sum()))
    failed, thin_failed = thinned(int((~is_ok).sum()))
    places = np.concatenate([np.flatnonzero(~is_ok)[failed], np.flatnonzero(is_ok)[ok]])
    words = thin.replace(" are", " complete answers are", 1) if thin else ""
    words += thin_failed.replace(" are", " others are", 1) if thin_failed else ""
    return ordered.take(np.sort(places)), words


def _draw_over_time(sent: Records, counts: Mapping[Outcome, int], figure: "Figure") -> None:
    axes = figure.subplots()
    began = sent.ints("sent_ns")
    at, took = (began - began.min()) / SECOND, (sent.ints("end_ns") - began) / MS
    outcomes = sorted(sent.tally("outcome"), key=lambda outcome: outcome is not Outcome.OK)
    for i, outcome in enumerate(outcomes):
        mine = sent.equal("outcome", outcome)
        label = f"{outcome.value.replace('_', ' ')} ({counts[outcome]:,})"
        axes.plot(at[mine], took[mine], markeredgewidth=0, label=label, linestyle="", **_style(outcome, i))
    axes.set_xlim(0, max(float(at.max()) * 1.02, 1e-3))
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
    known = run.requests.where(run.requests.equal("phase", "measure")).where_known("input_tokens")
    ttft, tokens = known.figure(TTFT), known.ints("input_tokens").astype(float)
    tokens, ttft = tokens[~np.isnan(ttft)], ttft[~np.isnan(ttft)]
    if len(ttft) < FEWEST or len(np.unique(tokens)) < _FEWEST_LENGTHS:
        return []
    order = np.argsort(tokens, kind="stable")
    places, thin = thinned(len(order))
    medians = _medians(tokens[order], ttft[order])
    note = f"Each point is a request, its input as the server counted it.{thin}"
    note += " Line: medians of groups of equal size." if medians is not None else ""
    if run.summary.is_sweep:
        note += " Requests of all steps."
    chosen = order[places]
    draw = partial(_draw_over_input, tokens[chosen], ttft[chosen], medians)
    return [Picture("ttft-input", "TTFT by length of the input", note, draw)]


def _medians(tokens: Floats, ttft: Floats) -> tuple[Floats, Floats] | None:
    """Return the medians of groups of neighbours; None where there are too few for two groups."""
    groups = min(_GROUPS, len(tokens) // _FEWEST_OF_GROUP)
    if groups < 2:  # noqa: PLR2004 one point is no line
        return None
    parts = zip(np.array_split(tokens, groups), np.array_split(ttft, groups), strict=True)
    across, up = zip(*((float(np.median(a)), float(np.median(b))) for a, b in parts), strict=True)
    return np.array(across), np.array(up)


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

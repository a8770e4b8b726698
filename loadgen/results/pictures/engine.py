"""Prefill and decode by the engine's own clock, next to what was measured here."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from loadgen.measure.columns import Floats
from loadgen.metrics import TPOT, TTFT
from loadgen.results.pictures.drawing import BLUE, ORANGE, SHARE, Picture, draw_ecdf, legend, scale
from loadgen.results.run_data import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 5


def engine_clock(run: Run) -> list[Picture]:
    """Return the picture of prefill and decode times; none where the engine does not report its own."""
    pairs = []
    for field, metric, name in (
        ("server_prefill_ms", TTFT, "prefill, by the engine"),
        ("server_tpot_ms", TPOT, "decode of a token, by the engine"),
    ):
        reported = run.answers.where_known(field)
        ours, theirs = reported.known_figures(metric), np.asarray(reported.values(field), dtype=float)
        if len(ours) >= FEWEST:
            pairs.append((ours, theirs, metric.label, name))
    if not pairs:
        return []
    note = "What TTFT has beyond the engine's own prefill is time in its queue, on the network and in its HTTP server."
    return [Picture("engine-clock", "Prefill and decode by the engine's own clock", note, partial(_draw, pairs))]


def _draw(pairs: "list[tuple[Floats, Floats, str, str]]", figure: "Figure") -> None:
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for axes, (ours, theirs, label, name) in zip(panels, pairs, strict=True):
        draw_ecdf(axes, theirs, ORANGE, name)
        draw_ecdf(axes, ours, BLUE, label)
        scale(axes, "x", np.concatenate([ours, theirs]), "ms", zero=False)
        legend(axes)
    panels[0].set_ylabel(SHARE)

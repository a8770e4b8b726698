"""The answers of one user in their order, so that a slow start or a trend is seen."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.change import Change, change
from loadgen.measure.columns import Floats
from loadgen.metrics import TOKENS_PER_SECOND
from loadgen.results.pictures.drawing import BLUE, DASHED, ORANGE, Picture, from_zero, legend, plain, thinned
from loadgen.results.run_data import Run
from loadgen.results.summary_schema import Figure as Estimate
from loadgen.results.text import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 3
_START = 0.4
"""Share of the answers up to which slower ones are a slow start."""


def in_order(run: Run) -> list[Picture]:
    """Return the picture of a speed run; none with fewer than three answers."""
    if run.summary.speed is None:
        return []
    rates = run.answers.sorted_by("sent_ns").known_figures(TOKENS_PER_SECOND)
    if len(rates) < FEWEST:
        return []
    changed = change(rates)
    places, thin = thinned(len(rates))
    note = f"One point per answer.{thin}"
    note += f" {_described(changed, len(rates))}" if changed else " No significant change."
    draw = partial(_draw, rates, places, changed, run.summary.speed.tokens_per_second_mean)
    return [Picture("answers-in-order", "Tokens per second of the answers, in their order", note, draw)]


def _described(changed: Change, count: int) -> str:
    name = "Slower later"
    if changed.mean_before < changed.mean_after:
        name = "Slow start" if changed.before <= _START * count else "Faster later"
    return (
        f"{name}: the first {changed.before:,} answers averaged {short(changed.mean_before)} tokens/s, the remaining "
        f"{count - changed.before:,} {short(changed.mean_after)}."
    )


def _draw(
    rates: Floats,
    places: NDArray[np.intp],
    changed: Change | None,
    mean: Estimate | None,
    figure: "Figure",
) -> None:
    axes = figure.subplots()
    axes.plot(
        places + 1, rates[places], "o", color=BLUE, markersize=3.2, markeredgewidth=0, alpha=0.75, label="an answer"
    )
    if mean is not None and mean.value is not None:
        axes.axhline(mean.value, color=BLUE, linewidth=1.2, label=f"mean {short(mean.value)}")
        if mean.ci95 is not None:
            axes.axhspan(*mean.ci95, color=BLUE, alpha=0.15, linewidth=0, label="its 95 % interval")
    if changed is not None:
        parts = ((1, changed.before, changed.mean_before), (changed.before + 1, len(rates), changed.mean_after))
        for first, last, level in parts:
            axes.plot([first, last], [level, level], color=ORANGE, linewidth=2)
        label = f"changes after answer {changed.before:,}"
        axes.axvline(changed.before + 0.5, color=ORANGE, linewidth=1.2, linestyle=DASHED, label=label)
    axes.set_xlim(0.5, len(rates) + 0.5)
    from_zero(axes.set_ylim, 1.12 * float(rates.max()))
    axes.set_xlabel("answer, in the order of sending")
    axes.set_ylabel(TOKENS_PER_SECOND.label)
    plain(axes.xaxis)
    plain(axes.yaxis)
    legend(axes, columns=4)

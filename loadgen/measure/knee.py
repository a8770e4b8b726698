"""Where throughput stops growing with concurrency.

The bounds are those of operational analysis without think time: X(N) <= min(N / R, X_max), which meet at N* = X_max R,
with R the time of a request alone. P. J. Denning, J. P. Buzen, The Operational Analysis of Queueing Network Models, ACM
Computing Surveys 10 (1978); E. D. Lazowska et al., Quantitative System Performance (1984), chapter 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

from loadgen.measure.statistics import Estimate

GROWTH = 0.03
"""Throughput grows where it grows by more. Where X = N / (a + b N), a doubling brings so much at 94 % of 1 / b."""

REACHED = 0.95
"""Share of the highest throughput at which the knee lies: beyond it users add waiting and little else."""

FEWEST_STEPS = 3
"""One below the knee, one above it, and one to see that throughput no longer grows."""

Step = tuple[int, float, tuple[float, float] | None]
"""Concurrency, throughput, and its 95 % interval where one is known."""


@dataclass(frozen=True, slots=True)
class Knee:
    """The concurrency at which throughput reaches 95 % of its highest; throughput in the unit of the steps."""

    concurrency: float
    """On a line between the two neighbouring steps; the first step's where throughput was reached there already."""
    ci95: tuple[float, float] | None
    """The same of the upper and of the lower ends that the intervals leave; None where a step has no interval. From 0
    where the first step may have reached it. Noise only: what is between two steps, nobody has measured."""
    between: tuple[int, int]
    """The last step clearly below, 0 if none is, and the first that clearly reached it."""
    highest: float
    """X_max, of the best step: the horizontal asymptote."""
    per_user: float
    """1 / R, which is X / N of the smallest step: the slope of the other asymptote, X = N / R."""
    operational: float
    """N* = X_max R: where the asymptotes meet. Too high where users already wait at the smallest step."""
    text: str

    def bound(self, concurrency: float) -> float:
        """Return min(N / R, X_max), which no throughput exceeds."""
        return min(concurrency * self.per_user, self.highest)


def best(steps: Sequence[Step]) -> int:
    """Return the index of the highest throughput, of equal ones the first."""
    return max(range(len(steps)), key=lambda i: steps[i][1])


def grew(previous_best: Estimate, new: Estimate, threshold: float = GROWTH) -> bool:
    """Tell whether throughput rose by more than ``threshold`` of the best so far, and by more than chance explains.

    Chance: both half-widths in quadrature. A missing interval explains nothing.
    """
    rise = new.value - previous_best.value
    return rise > threshold * previous_best.value and rise > hypot(_half_width(previous_best), _half_width(new))


def knee(steps: Sequence[Step]) -> Knee | None:
    """Return the knee; None of fewer than three steps, where nothing was served, or where throughput still grew."""
    ordered = sorted(steps, key=lambda step: step[0])
    if len(ordered) < FEWEST_STEPS or ordered[0][1] <= 0 or _still_grew(ordered):
        return None
    top = best(ordered)
    highest, per_user = ordered[top][1], ordered[0][1] / ordered[0][0]
    users = [step[0] for step in ordered[: top + 1]]
    lows, margins, highs = zip(*(_margin(step, ordered[top]) for step in ordered[: top + 1]), strict=True)
    concurrency, _ = _crossing(users, margins)
    earliest, maybe = _crossing(users, highs)
    latest, surely = _crossing(users, lows)
    known = all(step[2] is not None for step in ordered[: top + 1])
    ci95 = (earliest if maybe else 0.0, latest) if known else None
    between = (users[maybe - 1] if maybe else 0, users[surely])
    return Knee(
        concurrency=concurrency,
        ci95=ci95,
        between=between,
        highest=highest,
        per_user=per_user,
        operational=highest / per_user,
        text=_text(concurrency, ci95, between),
    )


def _still_grew(ordered: Sequence[Step]) -> bool:
    before = ordered[:-1]
    return grew(_estimate(before[best(before)]), _estimate(ordered[-1]))


def _estimate(step: Step) -> Estimate:
    _, value, ci95 = step
    return Estimate(value, ci95, n=0)


def _half_width(estimate: Estimate) -> float:
    return 0.0 if estimate.ci95 is None else (estimate.ci95[1] - estimate.ci95[0]) / 2


def _margin(step: Step, top: Step) -> tuple[float, float, float]:
    """Return how far a step is above 95 % of the highest: lower end, value, upper end; errors in quadrature."""
    margin = step[1] - REACHED * top[1]
    if step is top:  # above a share of itself, whatever its interval
        return margin, margin, margin
    (below, above), (top_below, top_above) = _arms(step), _arms(top)
    return margin - hypot(below, REACHED * top_above), margin, margin + hypot(above, REACHED * top_below)


def _arms(step: Step) -> tuple[float, float]:
    _, value, ci95 = step
    return (0.0, 0.0) if ci95 is None else (value - ci95[0], ci95[1] - value)


def _crossing(users: Sequence[int], margins: Sequence[float]) -> tuple[float, int]:
    """Return where the margin first reaches 0, on a line from the step before, and the index of the step behind it."""
    index = next(i for i, margin in enumerate(margins) if margin >= 0)
    if index == 0:
        return float(users[0]), 0
    before, after = margins[index - 1], margins[index]
    return users[index - 1] + (users[index] - users[index - 1]) * -before / (after - before), index


def _text(concurrency: float, ci95: tuple[float, float] | None, between: tuple[int, int]) -> str:
    below, reached = between
    share = f"{REACHED:.0%}".replace("%", " %")
    noise = "" if ci95 is None else f" (95 % interval of the noise: {ci95[0]:.1f} to {ci95[1]:.1f})"
    where = f"between {below} and {reached} users" if below else f"at {reached} users or fewer"
    at = f"; on a line between the steps at {concurrency:.1f}{noise}" if below or concurrency < reached else ""
    return f"throughput reaches {share} of its highest {where}{at}"

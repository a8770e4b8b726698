"""Where throughput stops growing with concurrency.

The bounds are those of operational analysis: X(N) <= min(N / R, X_max), which meet at N* = X_max R, with R the time of
a request alone. Where users think, R is the time of their whole cycle, think time included. P. J. Denning, J. P.
Buzen, The Operational Analysis of Queueing Network Models, ACM Computing Surveys 10 (1978); E. D. Lazowska et al.,
Quantitative System Performance (1984), chapter 5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

from loadgen.measure.statistics import Estimate

GROWTH = 0.03
"""Throughput grows where it grows by more. Where X = N / (a + b N), a doubling brings so much at 94 % of 1 / b."""

REACHED = 0.95
"""Share of the highest throughput at which the knee lies: beyond it users add waiting and little else."""

ALIKE = 0.02
"""Steps of a plateau are below the best one by at most this share: the precision to which steps are measured."""

WIDE = 0.15
"""Half of a missing interval, as a share of the value: throughput of a few round trips is known no better than that."""

FEWEST_STEPS = 3
"""One below the knee, one above it, and one to see that throughput no longer grows."""

Step = tuple[int, float, tuple[float, float] | None]
"""Concurrency, throughput, and its 95 % interval where one is known."""


@dataclass(frozen=True, slots=True)
class Knee:
    """The concurrency at which throughput reaches 95 % of its highest; throughput in the unit of the steps.

    It lies between two steps. Where between them, nobody has measured.
    """

    between: tuple[int, int]
    """The last step clearly below, 0 if none is, and the first that clearly reached it."""
    highest: float
    """X_max, of the plateau: the horizontal asymptote."""
    per_user: float
    """1 / R, which is X / N of the smallest step: the slope of the other asymptote, X = N / R."""
    operational: float
    """N* = X_max R: where the asymptotes meet. Too high where users already wait at the smallest step."""
    text: str

    def bound(self, concurrency: float) -> float:
        """Return min(N / R, X_max), which no throughput exceeds."""
        return min(concurrency * self.per_user, self.highest)


@dataclass(frozen=True, slots=True)
class Plateau:
    """The steps whose throughput is the highest, as far as chance allows to tell."""

    steps: tuple[int, ...]
    """Their indices among all steps."""
    weights: tuple[float, ...]
    """Of each of them in the mean, 1 in all."""
    value: float
    ci95: tuple[float, float] | None


def plateau(steps: Sequence[Step]) -> Plateau:
    """Return the highest throughput: the mean of all steps that the best of them does not clearly exceed.

    The best of several equal steps is too high by chance, their mean is not. A step belongs to the plateau if it is
    below the best by no more than chance explains, and by at most ``ALIKE``: with wide intervals, chance alone would
    take in steps where throughput still grew. Each counts by the inverse of its variance. Steps without an interval are
    left out unless they clearly exceed those with one, or none has one.
    """
    known = [i for i, step in enumerate(steps) if step[2] is not None]
    top = best(steps)
    if known:
        with_interval = max(known, key=lambda i: steps[i][1])
        if not grew(_estimate(steps[with_interval]), _estimate(steps[top])):
            return _mean(steps, [i for i in known if _is_alike(steps[i], steps[with_interval])])
    alike = [i for i, step in enumerate(steps) if step[1] >= (1 - GROWTH) * steps[top][1]]
    return _mean(steps, alike)


def best(steps: Sequence[Step]) -> int:
    """Return the index of the highest throughput, of equal ones the first."""
    return max(range(len(steps)), key=lambda i: steps[i][1])


def grew(previous_best: Estimate, new: Estimate, threshold: float = GROWTH) -> bool:
    """Tell whether throughput rose by more than ``threshold`` of the best so far, and by more than chance explains.

    Chance: both half-widths in quadrature. A missing interval counts as a wide one, and so does a wider one: a sweep of
    slow answers would otherwise end at its first steps, whose intervals of a few answers are wide.
    """
    rise = new.value - previous_best.value
    chance = hypot(*(min(_half_width(estimate), WIDE * estimate.value) for estimate in (previous_best, new)))
    return rise > threshold * previous_best.value and rise > chance


def knee(steps: Sequence[Step]) -> Knee | None:
    """Return the knee; None of fewer than three steps, where nothing was served, or where throughput still grew."""
    ordered = sorted(steps, key=lambda step: step[0])
    if len(ordered) < FEWEST_STEPS or ordered[0][1] <= 0 or _still_grew(ordered):
        return None
    top = plateau(ordered)
    per_user = ordered[0][1] / ordered[0][0]
    users = [step[0] for step in ordered]
    margins = [_margin(step, top) for step in ordered]
    maybe = next((i for i, (_, high) in enumerate(margins) if high >= 0), len(ordered) - 1)
    surely = next((i for i, (low, _) in enumerate(margins) if low >= 0), len(ordered) - 1)
    between = (users[maybe - 1] if maybe else 0, users[surely])
    return Knee(
        between=between,
        highest=top.value,
        per_user=per_user,
        operational=top.value / per_user,
        text=_text(between),
    )


def _still_grew(ordered: Sequence[Step]) -> bool:
    before = ordered[:-1]
    return grew(_estimate(before[best(before)]), _estimate(ordered[-1]))


def _is_alike(step: Step, top: Step) -> bool:
    """Whether a step is below another by no more than chance explains, and by at most ALIKE."""
    chance = hypot(_half_width(_estimate(step)), _half_width(_estimate(top)))
    return top[1] - step[1] <= min(chance, ALIKE * top[1])


def _mean(steps: Sequence[Step], indices: Sequence[int]) -> Plateau:
    """Return the mean of some steps, with an interval where all of them have one."""
    values = [steps[i][1] for i in indices]
    if any(steps[i][2] is None for i in indices):
        weights = [1 / len(indices)] * len(indices)
        return Plateau(tuple(indices), tuple(weights), sum(values) / len(values), None)
    # An interval of no width is as good as one of a millionth.
    halves = [max(_half_width(_estimate(steps[i])), 1e-6 * steps[i][1], 1e-300) for i in indices]
    precisions = [1 / half**2 for half in halves]
    weights = [precision / sum(precisions) for precision in precisions]
    value = sum(weight * v for weight, v in zip(weights, values, strict=True))
    # No narrower than the narrowest of them: which steps are alike was found from these very values.
    below, above = _arms(steps[min(zip(halves, indices, strict=True))[1]])
    return Plateau(tuple(indices), tuple(weights), value, (value - below, value + above))


def _estimate(step: Step) -> Estimate:
    _, value, ci95 = step
    return Estimate(value, ci95, n=0)


def _half_width(estimate: Estimate) -> float:
    return WIDE * estimate.value if estimate.ci95 is None else (estimate.ci95[1] - estimate.ci95[0]) / 2


def _margin(step: Step, top: Plateau) -> tuple[float, float]:
    """Return how far a step is above 95 % of the highest: lower and upper end, errors in quadrature."""
    margin = step[1] - REACHED * top.value
    (below, above), (top_below, top_above) = _arms(step), _arms((0, top.value, top.ci95))
    return margin - hypot(below, REACHED * top_above), margin + hypot(above, REACHED * top_below)


def _arms(step: Step) -> tuple[float, float]:
    _, value, ci95 = step
    return (WIDE * value, WIDE * value) if ci95 is None else (value - ci95[0], ci95[1] - value)


def _text(between: tuple[int, int]) -> str:
    below, reached = between
    share = f"{REACHED:.0%}".replace("%", " %")
    where = f"between {below} and {reached} users" if below else f"at {reached} users or fewer"
    return f"throughput reaches {share} of its highest {where}"

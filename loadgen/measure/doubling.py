"""Which concurrency comes next in a sweep."""

from collections.abc import Sequence
from typing import Protocol

from loadgen.measure.knee import grew
from loadgen.measure.statistics import Estimate

BEYOND = 2
"""Steps measured beyond the one with which throughput stopped growing, to see that it does not grow again."""

MOST_USERS = 16_384
"""Doubling ends there at the latest."""


class StepPolicy(Protocol):
    """The steps of a sweep, one after another."""

    @property
    def first(self) -> int:
        """Users of the first step."""

    @property
    def known_steps(self) -> int | None:
        """How many there will be, where that is known."""

    @property
    def possible(self) -> Sequence[int]:
        """Users of each step that there may be."""

    @property
    def best(self) -> Estimate | None:
        """The highest throughput so far, None before the first."""

    def after(self, concurrency: int, throughput: Estimate | None, *, broken: bool) -> int | None:
        """Return the users of the next step, None where there is none.

        ``throughput``: None of a step that was not steady, or too short to have one; ``broken``: limits were not kept.
        """


class FixedSteps:
    """Steps as they were named."""

    def __init__(self, steps: Sequence[int]) -> None:
        self._steps = list(steps)
        self.best: Estimate | None = None

    @property
    def first(self) -> int:
        """The first named."""
        return self._steps[0]

    @property
    def known_steps(self) -> int | None:
        """All that were named."""
        return len(self._steps)

    @property
    def possible(self) -> Sequence[int]:
        """Return them as they were named."""
        return self._steps

    def after(self, concurrency: int, throughput: Estimate | None, *, broken: bool) -> int | None:
        """Return the next one named, whatever was found."""
        del broken
        self.best = _higher(self.best, throughput)
        later = [step for step in self._steps if step > concurrency]
        return later[0] if later else None


class DoublingSteps:
    """Twice as many each time, until throughput has stopped growing and two steps more, or limits are not kept."""

    def __init__(self) -> None:
        self.best: Estimate | None = None
        self._without_growth = 0

    @property
    def first(self) -> int:
        """One user."""
        return 1

    @property
    def known_steps(self) -> int | None:
        """Nobody knows."""
        return None

    @property
    def possible(self) -> Sequence[int]:
        """Return all powers of two up to the limit."""
        return [1 << step for step in range(MOST_USERS.bit_length())]

    def after(self, concurrency: int, throughput: Estimate | None, *, broken: bool) -> int | None:
        """Return twice as many, unless there is nothing more to be found.

        A step without a throughput is no reason to go on: it counts as one without growth.
        """
        if throughput is not None and (self.best is None or grew(self.best, throughput)):
            self._without_growth = 0
        else:
            self._without_growth += 1
        self.best = _higher(self.best, throughput)
        ends = broken or self._without_growth >= BEYOND or 2 * concurrency > MOST_USERS
        return None if ends else 2 * concurrency


def _higher(best: Estimate | None, new: Estimate | None) -> Estimate | None:
    if best is None or new is None:
        return best or new
    return new if new.value > best.value else best

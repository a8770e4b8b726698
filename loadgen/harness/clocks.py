"""By how much two processes' clocks differ, from questions and answers between them."""

from dataclasses import dataclass

from loadgen.clock import MS, SECOND
from loadgen.harness.messages import Clock

WALL_LIMIT_S = 1.0
"""A worker whose wall clock is further off is refused: its host keeps no time, and its logs would not fit ours."""


@dataclass(frozen=True, slots=True)
class Offset:
    """What has to be added to a worker's monotonic times to have them on ours, and what is known of its wall clock."""

    monotonic_ns: int
    uncertainty_ns: int
    """The true offset is no further off: half the round trip, since the answer was written anywhere in it, and what
    was taken for none."""
    wall_ms: float
    """The worker's wall clock minus ours."""


def offset(answer: Clock, answered_ns: int, realtime_ns: int) -> Offset:
    """Return the offset by one exchange that ended at ``answered_ns``, when our wall clock showed ``realtime_ns``.

    F. Cristian, Probabilistic clock synchronization, 1989: the answer is taken to have been written half-way. Processes
    on one machine read the same clock: an offset that the round trip could explain is none.
    """
    half = (answered_ns - answer.asked_ns + 1) // 2
    middle = answer.asked_ns + half
    difference, uncertainty = middle - answer.monotonic_ns, half
    if abs(difference) <= half:
        difference, uncertainty = 0, half + abs(difference)
    return Offset(difference, uncertainty, (answer.realtime_ns - (realtime_ns - half)) / MS)


def is_far_off(found: Offset) -> bool:
    """Whether a wall clock is too far off to be worked with."""
    return abs(found.wall_ms) / 1000 - found.uncertainty_ns / SECOND > WALL_LIMIT_S

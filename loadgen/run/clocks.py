"""The offset between the clocks of two processes, from one question and its answer."""

from dataclasses import dataclass

from loadgen.clock import MS, SECOND
from loadgen.run.messages import ClockReading

WALL_LIMIT_S = 1.0
"""A worker whose wall clock is further off is refused: its host does not keep time, and its logs would not match."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How a worker's clocks differ from the master's."""

    monotonic_ns: int
    """To be added to the worker's monotonic times to get the master's."""
    uncertainty_ns: int
    """Largest error of ``monotonic_ns``: half the round trip, plus a difference that was taken for zero."""
    wall_ms: float
    """The worker's wall clock minus ours."""


def offset(answer: ClockReading, answered_ns: int, realtime_ns: int) -> ClockOffset:
    """Return the offset from one exchange that ended at ``answered_ns``, when our wall clock read ``realtime_ns``.

    The answer is assumed to have been written half-way (F. Cristian, Probabilistic clock synchronization, 1989).
    Processes on one machine read the same clock, so an offset that the round trip could explain is taken for zero.
    """
    half = (answered_ns - answer.asked_ns + 1) // 2
    middle = answer.asked_ns + half
    difference, uncertainty = middle - answer.monotonic_ns, half
    if abs(difference) <= half:
        difference, uncertainty = 0, half + abs(difference)
    return ClockOffset(difference, uncertainty, (answer.realtime_ns - (realtime_ns - half)) / MS)


def is_far_off(found: ClockOffset) -> bool:
    """Whether a worker's wall clock is too far off."""
    return abs(found.wall_ms) / 1000 - found.uncertainty_ns / SECOND > WALL_LIMIT_S

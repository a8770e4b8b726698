"""How many requests were in flight, and what was served while all users were at work."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.clock import SECOND
from loadgen.record import Outcome, RequestRecord


@dataclass(frozen=True, slots=True)
class Window:
    """A span of the run on the monotonic clock, ns."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end - self.start) / SECOND


def peak_in_flight(records: Sequence[RequestRecord]) -> int:
    """Return the largest number of requests in [sent, end) at one instant."""
    level = peak = 0
    for _, change in _changes(records):
        level += change
        peak = max(peak, level)
    return peak


def full_window(records: Sequence[RequestRecord], users: int) -> Window | None:
    """Return the span from the first to the last instant at which ``users`` requests were in flight.

    Between the two the load is constant but for the moments between an answer and the next request; before it lies the
    ramp, behind it the drain. None where the number was never reached.
    """
    level = 0
    start = end = None
    for at, change in _changes(records):
        if level >= users and change < 0:
            end = at
        level += change
        if level >= users and start is None:
            start = at
    if start is None or end is None or end <= start:
        return None
    return Window(start, end)


def answers_in(records: Sequence[RequestRecord], window: Window) -> int:
    """Return how many complete answers ended in the window."""
    return len(_ended_in(records, window))


def requests_per_minute(records: Sequence[RequestRecord], window: Window) -> float:
    """Return complete answers that ended in the window, per minute."""
    return 60 * len(_ended_in(records, window)) / window.seconds


def output_tokens_per_second(records: Sequence[RequestRecord], window: Window) -> float | None:
    """Return output tokens of complete answers that ended in the window, per second; None where one was not counted."""
    counts = [r.output_tokens for r in _ended_in(records, window)]
    known = [count for count in counts if count is not None]
    return sum(known) / window.seconds if len(known) == len(counts) else None


def _ended_in(records: Sequence[RequestRecord], window: Window) -> list[RequestRecord]:
    ok = (r for r in records if r.outcome is Outcome.OK and r.end_ns is not None)
    return [r for r in ok if r.end_ns is not None and window.start < r.end_ns <= window.end]


def _changes(records: Sequence[RequestRecord]) -> list[tuple[int, int]]:
    spans = [(r.sent_ns, r.end_ns) for r in records if r.sent_ns is not None and r.end_ns is not None]
    # An end and a start at the same instant: the end comes first, or the peak would be one too high.
    return sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])

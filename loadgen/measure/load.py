"""How many requests were in flight, and what was served while all users were at work."""

from collections.abc import Iterator, Sequence
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
    return sum(window.start < (r.end_ns or 0) <= window.end for r in records if r.outcome is Outcome.OK)


def requests_per_minute(records: Sequence[RequestRecord], window: Window) -> float:
    """Return complete answers served in the window, per minute; of one that reaches beyond it, the part within counts.

    Counting those that end in it would depend on how the edges of the window fall between answers: with users in step,
    by as much as an answer of each.
    """
    return 60 * sum(share for _, share in _parts_in(records, window)) / window.seconds


def output_tokens_per_second(records: Sequence[RequestRecord], window: Window) -> float | None:
    """Return output tokens served in the window, by the same parts, per second; None where one was not counted."""
    tokens = 0.0
    for r, share in _parts_in(records, window):
        if r.output_tokens is None:
            return None
        tokens += share * r.output_tokens
    return tokens / window.seconds


def _parts_in(records: Sequence[RequestRecord], window: Window) -> Iterator[tuple[RequestRecord, float]]:
    """Give the complete answers that reach into the window, each with the share of its time that lies within."""
    for r in records:
        if r.outcome is not Outcome.OK or r.sent_ns is None or r.end_ns is None or r.end_ns <= r.sent_ns:
            continue
        within = min(r.end_ns, window.end) - max(r.sent_ns, window.start)
        if within > 0:
            yield r, within / (r.end_ns - r.sent_ns)


def _changes(records: Sequence[RequestRecord]) -> list[tuple[int, int]]:
    spans = [(r.sent_ns, r.end_ns) for r in records if r.sent_ns is not None and r.end_ns is not None]
    # An end and a start at the same instant: the end comes first, or the peak would be one too high.
    return sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])

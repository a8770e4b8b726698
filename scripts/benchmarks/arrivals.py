"""First token, last token and end of a request: each an interval by the record, a moment by the server's log."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loadgen.clock import MS
from loadgen.measure.truth import KERNEL_SLACK_MS, Truth
from loadgen.record import RequestRecord

NOTE = f"Inside: the true time lies in the record's interval, or at most {KERNEL_SLACK_MS:g} ms beside it."


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the record says, and how far the truth lies from it, ms."""

    width_ms: float
    late_ms: float
    """Recorded minus true."""

    @property
    def inside(self) -> bool:
        """Whether the truth lies in the interval, but for the way through the kernel."""
        return self.outside_ms <= KERNEL_SLACK_MS

    @property
    def outside_ms(self) -> float:
        """How far the truth is from the interval; 0 within."""
        return max(0.0, -self.late_ms, self.late_ms - self.width_ms)


def of(pairs: Iterable[tuple[RequestRecord, Truth]]) -> Mapping[str, Sequence[Arrival]]:
    """Return those of complete answers, by what arrived."""
    found: dict[str, list[Arrival]] = {"first token": [], "last token": [], "end": []}
    for r, t in pairs:
        known = (
            (r.first_token_ns, r.first_token_interval_ns, t.chunk_ns[0]),
            (r.last_token_ns, r.last_token_interval_ns, t.chunk_ns[-1]),
            (r.end_ns, r.end_interval_ns, t.end_ns),
        )
        for arrivals, (at, width, true) in zip(found.values(), known, strict=True):
            assert at is not None, "a complete answer has all its times"
            assert true is not None, "a complete answer was sent to its end"
            arrivals.append(Arrival((width or 0) / MS, (at - true) / MS))
    return found


def shares_inside(known: Mapping[str, Sequence[Arrival]]) -> dict[str, float]:
    """Return the share of each that is inside, and how far outside the worst one is."""
    shares = {
        f"true {what} inside, %": 100 * sum(a.inside for a in arrivals) / len(arrivals)
        for what, arrivals in known.items()
        if arrivals
    }
    farthest = max((a.outside_ms for arrivals in known.values() for a in arrivals), default=0.0)
    return shares | {"farthest outside, ms": farthest}

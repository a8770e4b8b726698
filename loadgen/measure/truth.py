"""How far records are from the truth, where the server says when it sent what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

from loadgen.clock import MS
from loadgen.record import Outcome, Phase, RequestRecord

KERNEL_SLACK_MS = 0.5
"""What an arrival may lie beside its interval: the way through the kernel, and a server that was stopped between its
note and its send."""


class Truth(msgspec.Struct, frozen=True):
    """What the truth server says of one answer; times on the monotonic clock, ns, just before each send call."""

    request_id: str
    received_ns: int
    sent_ns: list[int]
    kinds: list[str]
    """What each send held: h(ead), r(ole), t(oken chunk), u(sage), d(one), e(nd)."""
    output_tokens: int

    @property
    def chunk_ns(self) -> list[int]:
        """When each chunk of tokens was sent."""
        return [at for at, kinds in zip(self.sent_ns, self.kinds, strict=True) for _ in range(kinds.count("t"))]

    @property
    def end_ns(self) -> int | None:
        """When the end of the response was sent; None if it never was, or the client had left before."""
        return self.sent_ns[-1] if self.kinds and "e" in self.kinds[-1] else None


@dataclass(slots=True)
class Errors:
    """Recorded minus true, ms, one value a request (of ITL: a gap, without its sign)."""

    ttft: list[float] = field(default_factory=list)
    itl: list[float] = field(default_factory=list)
    tpot: list[float] = field(default_factory=list)
    e2e: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    """The widest interval of each request: what could not be known exactly."""
    outside: int = 0
    """Requests with a first token, last token or end that lies outside its interval."""
    true_ttft: list[float] = field(default_factory=list)
    true_e2e: list[float] = field(default_factory=list)


def errors(records: Iterable[RequestRecord], truths: Mapping[str, Truth]) -> Errors:
    """Compare the complete answers of the measured phase with the server's log; raises KeyError where it lacks one."""
    found = Errors()
    for r in records:
        if r.phase is not Phase.MEASURE or r.outcome is not Outcome.OK:
            continue
        t = truths[r.request_id]
        known = _arrivals(r, t)
        found.outside += any(not _lies_within(*arrival) for arrival in known)
        found.intervals.append(max((width or 0) for _, width, _ in known) / MS)
        chunks = t.chunk_ns
        found.ttft.append(((r.first_token_ns or 0) - chunks[0]) / MS)
        found.e2e.append(((r.end_ns or 0) - (t.end_ns or 0)) / MS)
        found.true_ttft.append((chunks[0] - t.received_ns) / MS)
        found.true_e2e.append(((t.end_ns or 0) - t.received_ns) / MS)
        if len(chunks) > 1:
            span = (r.last_token_ns or 0) - (r.first_token_ns or 0)
            found.tpot.append((span - (chunks[-1] - chunks[0])) / (t.output_tokens - 1) / MS)
        found.itl.extend(_gap_errors(r.chunk_ns, chunks))
    return found


def _arrivals(r: RequestRecord, t: Truth) -> Sequence[tuple[int | None, int | None, int | None]]:
    """Return time, width and truth of first token, last token and end."""
    chunks = t.chunk_ns
    return (
        (r.first_token_ns, r.first_token_interval_ns, chunks[0]),
        (r.last_token_ns, r.last_token_interval_ns, chunks[-1]),
        (r.end_ns, r.end_interval_ns, t.end_ns),
    )


def _lies_within(at: int | None, width: int | None, true: int | None) -> bool:
    if at is None or true is None:
        return False
    slack = KERNEL_SLACK_MS * MS
    return at - (width or 0) - slack <= true <= at + slack


def _gap_errors(ours: Sequence[int] | None, true: Sequence[int]) -> list[float]:
    if ours is None:
        return []
    return [abs((b - a) - (d - c)) / MS for (a, b), (c, d) in zip(pairwise(ours), pairwise(true), strict=True)]

"""What two accounts of the same requests differ by: the peer's report and the server's log."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.peers.peer import Answer, Reported
from loadgen.measure.truth import Truth

MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in four numbers; percentiles are values at sorted index floor(n p)."""

    mean: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Errors:
    """How far off a peer's times are, ms."""

    ttft: Spread
    """Reported minus true, the true one from the request's arrival at the server to the send of its first token."""
    itl: Spread | None
    """Absolute; None where the peer reports no gaps."""
    matched: int
    """Requests set against their own row in the log, by id; the others against the log's median TTFT, mean gap."""
    true_ttft_spread: float
    """The log's longest TTFT minus its shortest: what matching by median can be wrong by."""
    completed: int


def errors_of(reported: Reported, truths: Sequence[Truth]) -> Errors:
    """Compare; raises ValueError if either side is empty."""
    if not reported.answers or not truths:
        raise ValueError(f"nothing to compare: {reported.completed} answers reported, {len(truths)} in the log")
    true_ttft = [true_ttft_ms(truth) for truth in truths]
    usual_ttft = statistics.median(true_ttft)
    usual_gap = statistics.fmean([gap for truth in truths for gap in true_gaps_ms(truth)] or [0.0])
    by_id = {truth.request_id: truth for truth in truths}
    own = [(answer, by_id.get(answer.request_id or "none")) for answer in reported.answers]
    itl = [error for answer, truth in own for error in _gap_errors(answer, truth, usual_gap)]
    return Errors(
        ttft=spread([answer.ttft_ms - (true_ttft_ms(truth) if truth else usual_ttft) for answer, truth in own]),
        itl=spread(itl) if itl else None,
        matched=sum(truth is not None for _, truth in own),
        true_ttft_spread=max(true_ttft) - min(true_ttft),
        completed=reported.completed,
    )


def held_of(truths: Iterable[Truth]) -> int:
    """Return the largest number of requests that were in flight at once, received and not yet sent to their end."""
    steps = sorted(step for truth in truths for step in ((truth.received_ns, 1), (truth.sent_ns[-1], -1)))
    most = now = 0
    for _, step in steps:  # at one instant ends come first
        now += step
        most = max(most, now)
    return most


def true_ttft_ms(truth: Truth) -> float:
    """Return the time from the arrival of a request to the send of its first token."""
    return (truth.chunk_ns[0] - truth.received_ns) / MS


def true_gaps_ms(truth: Truth) -> list[float]:
    """Return the gaps between the sends of its tokens."""
    return [(after - before) / MS for before, after in pairwise(truth.chunk_ns)]


def spread(values: Sequence[float]) -> Spread:
    """Summarise; not for none."""
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * p))] for p in (0.5, 0.99))
    return Spread(statistics.fmean(ordered), p50, p99, ordered[-1])


def _gap_errors(answer: Answer, truth: Truth | None, usual: float) -> list[float]:
    true = true_gaps_ms(truth) if truth else []
    if len(true) != len(answer.gaps_ms):  # some chunks were counted as one: there is no telling which
        true = [usual] * len(answer.gaps_ms)
    return [abs(reported - sent) for reported, sent in zip(answer.gaps_ms, true, strict=True)]

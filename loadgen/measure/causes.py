"""Failures by cause: message, count, age at failure, and the time from which all connections were refused."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from loadgen.clock import SECOND
from loadgen.record import Outcome, RequestRecord

MOST_CAUSES = 10
"""Lines that a report has for them."""

CLIENT_LIMIT_ADVICE = (
    "That is a limit of this machine: --keep-alive opens fewer connections, closed ones free their ports after a "
    "minute, and `ulimit -n` shows how many files may be open."
)

_UUID = r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"
_ID = r"\b(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{12,}\b"
_FOLDED = re.compile(rf"(?P<id>{_UUID}|{_ID})|[0-9]+(?:\.[0-9]+)?")
_STATUS = re.compile(r"HTTP [0-9]{3}")

_OURS = frozenset(
    {Outcome.FIRST_BYTE_TIMEOUT, Outcome.IDLE_TIMEOUT, Outcome.TOTAL_TIMEOUT, Outcome.CONNECT_TIMEOUT, Outcome.ABORTED}
)
"""Outcomes of requests that were ended by a limit of the client."""

_FEWEST, _MOST_ALIKE, _SHORTEST_S = 5, 0.8, 5.0
_WITHIN, _WITHIN_S = 0.02, 0.5


@dataclass(frozen=True, slots=True)
class Cause:
    """What requests failed of."""

    outcome: Outcome
    message: str
    """What was said: as it was, where that was always the same, else with ids and numbers folded."""
    count: int


def causes(failed: Sequence[RequestRecord]) -> list[Cause]:
    """Return what requests failed of, the most frequent first, at most :data:`MOST_CAUSES`."""
    found: dict[tuple[Outcome, str], Counter[str]] = {}
    for r in failed:
        said = r.error or "no message"
        found.setdefault((r.outcome, folded(said)), Counter())[said] += 1
    all_causes = [
        Cause(outcome, next(iter(said)) if len(said) == 1 else text, said.total())
        for (outcome, text), said in found.items()
    ]
    return sorted(all_causes, key=lambda cause: -cause.count)[:MOST_CAUSES]


def folded(message: str) -> str:
    """Return a message with its ids and numbers replaced, so that alike ones are equal; an HTTP status stays."""
    status = _STATUS.match(message)
    start = status.end() if status else 0
    return message[:start] + _FOLDED.sub(lambda m: "ID" if m["id"] else "N", message[start:])


def common_age_s(failed: Sequence[RequestRecord]) -> tuple[float, int] | None:
    """Return the age, in s, at which most requests failed, and how many did; None where there is no such age.

    Requests that the client gave up are left out. Gateways cut requests at round times.
    """
    ages = [
        (r.end_ns - r.sent_ns) / SECOND
        for r in failed
        if r.outcome not in _OURS and r.sent_ns is not None and r.end_ns is not None
    ]
    if len(ages) < _FEWEST:
        return None
    middle = median(ages)
    alike = sum(abs(age - middle) <= max(_WITHIN * middle, _WITHIN_S) for age in ages)
    return (middle, alike) if middle >= _SHORTEST_S and alike >= _MOST_ALIKE * len(ages) else None


def refused_since_s(measured: Sequence[RequestRecord]) -> tuple[float, int] | None:
    """Return since when every connection was refused, in s after the first request was sent, and how many were.

    None where the last requests were not all refused, or all requests were. Those that the client ended do not count.
    """
    ends = sorted(
        (r.end_ns, r.outcome is Outcome.REFUSED)
        for r in measured
        if r.end_ns is not None and r.outcome is not Outcome.ABORTED
    )
    first = min((r.sent_ns for r in measured if r.sent_ns is not None), default=None)
    last = next((i for i in reversed(range(len(ends))) if not ends[i][1]), None)
    if first is None or last is None or len(ends) - 1 - last < _FEWEST:
        return None
    return (ends[last + 1][0] - first) / SECOND, len(ends) - 1 - last

"""Failures by cause: message, count, age at failure, and the time from which all connections were refused."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure.records import Records
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


def causes(failed: Iterable[RequestRecord]) -> list[Cause]:
    """Return what requests failed of, the most frequent first, at most :data:`MOST_CAUSES`."""
    found: dict[tuple[Outcome, str], Counter[str]] = {}
    for (outcome, error), count in Records.of(failed).tally("outcome", "error").items():
        said = error or "no message"
        found.setdefault((outcome, folded(said)), Counter())[said] += count
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


def common_age_s(failed: Iterable[RequestRecord]) -> tuple[float, int] | None:
    """Return the age, in s, at which most requests failed, and how many did; None where there is no such age.

    Requests that the client gave up are left out. Gateways cut requests at round times.
    """
    failed = Records.of(failed)
    cut = failed.where(~failed.equal("outcome", *_OURS)).where_known("sent_ns", "end_ns")
    if len(cut) < _FEWEST:
        return None
    ages = (cut.ints("end_ns") - cut.ints("sent_ns")) / SECOND
    middle = float(np.median(ages))
    alike = int((np.abs(ages - middle) <= max(_WITHIN * middle, _WITHIN_S)).sum())
    return (middle, alike) if middle >= _SHORTEST_S and alike >= _MOST_ALIKE * len(ages) else None


def refused_since_s(measured: Iterable[RequestRecord]) -> tuple[float, int] | None:
    """Return since when every connection was refused, in s after the first request was sent, and how many were.

    None if some of the last requests were not refused, or if all requests were. Aborted requests are ignored.
    """
    measured = Records.of(measured)
    sent = measured.where_known("sent_ns").ints("sent_ns")
    ended = measured.where(~measured.equal("outcome", Outcome.ABORTED)).where_known("end_ns")
    ends, refused = ended.ints("end_ns"), ended.equal("outcome", Outcome.REFUSED)
    order = np.lexsort((refused, ends))
    answered = np.flatnonzero(~refused[order])
    if not len(sent) or not len(answered) or len(order) - 1 - answered[-1] < _FEWEST:
        return None
    since = order[answered[-1] + 1 :]
    return (int(ends[since[0]]) - int(sent.min())) / SECOND, len(since)

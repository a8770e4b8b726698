"""Think time: what the users of a closed loop do between their requests, as the records tell it.

At each moment a user waits for the engine, or thinks, or is between two requests because the client itself costs time.
``think_ns`` of a record is the time from the end of the user's answer before to the call that asked for the request.
It contains the lateness of our event loop: a user whose pause is over, or who has none, goes on only when the loop
comes to it. So only the part beyond that lateness, the p99 of the loop lag, counts as thinking. The rest is charged to
the client, and Little's law still finds a slow one. A user who thinks for seconds loses a few thousandths by it.

The cycle of a user is its think time and the request after it, from answer to answer.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean

from loadgen.clock import MS
from loadgen.measure.limits import OWN_PAUSE_MS, THINKING_PAUSES, THINKING_SHARE, THINKING_USERS
from loadgen.measure.load import Window
from loadgen.record import RequestRecord

Span = tuple[int, int]


def lateness_ns(loop_lag_p99_ms: float | None) -> int:
    """Return how much of each pause between two requests the event loop's lateness may explain, ns."""
    return int(max(OWN_PAUSE_MS, loop_lag_p99_ms or 0.0) * MS)


def thinking_ns(record: RequestRecord, lateness: int) -> int:
    """Return how long a user thought before a request, ns; ``lateness`` of the pause is not counted."""
    return max(0, (record.think_ns or 0) - lateness)


def has_think_time(measured: Sequence[RequestRecord], lateness: int) -> bool:
    """Whether users of a closed loop think: on average as many as the limits say."""
    thoughtful = _thoughtful_users(measured, lateness)
    thinking = sum(thinking_ns(r, lateness) for r in measured if r.user in thoughtful)
    waiting = sum(r.end_ns - r.sent_ns for r in measured if r.sent_ns is not None and r.end_ns is not None)
    if not thinking:
        return False
    users = len(users_of(measured))
    return users * thinking / (thinking + waiting) > min(THINKING_SHARE * users, THINKING_USERS)


def _thoughtful_users(measured: Sequence[RequestRecord], lateness: int) -> set[int | None]:
    """Return the users of whose pauses more than a few are longer than the loop's lateness."""
    pauses: dict[int | None, list[bool]] = defaultdict(list)
    for r in measured:
        if r.think_ns is not None:
            pauses[r.user].append(r.think_ns > lateness)
    return {user for user, are_long in pauses.items() if fmean(are_long) > THINKING_PAUSES}


def mean_think_ms(records: Iterable[RequestRecord]) -> float | None:
    """Return the mean time from an answer to the call for the next request, ms; None where nobody looked."""
    times = [r.think_ns / MS for r in records if r.think_ns is not None]
    return fmean(times) if times else None


def users_of(records: Iterable[RequestRecord]) -> set[int]:
    """Return the numbers of the users who sent requests."""
    return {r.user for r in records if r.user is not None and r.sent_ns is not None}


def whole_cycles(measured: Sequence[RequestRecord], users: Iterable[int]) -> Window | None:
    """Return the window in which each of some users is between two of its answers; None where there is none.

    It starts when the last of them has its first answer, and ends when the first of them has its last one. Later that
    user may still think, or have no more to ask: its records do not tell which. So every cycle that touches the window
    is known from its start to its end.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for r in measured:
        if r.user is None or r.sent_ns is None or r.end_ns is None:
            continue
        first[r.user] = min(r.end_ns, first.get(r.user, r.end_ns))
        last[r.user] = max(r.end_ns, last.get(r.user, r.end_ns))
    wanted = list(users)
    if not wanted or any(user not in first for user in wanted):
        return None
    start, end = max(first[user] for user in wanted), min(last[user] for user in wanted)
    return Window(start, end) if end > start else None


def think_spans(measured: Iterable[RequestRecord], lateness: int) -> list[Span]:
    """Return when users thought, one span for each pause that is longer than ``lateness``, ns."""
    return [
        (r.sent_ns - lateness - thought, r.sent_ns - lateness)
        for r in measured
        if r.sent_ns is not None and (thought := thinking_ns(r, lateness))
    ]


def mean_number(spans: Iterable[Span], window: Window) -> float:
    """Return how many spans cover a moment of the window, on average."""
    inside = sum(max(0, min(end, window.end) - max(start, window.start)) for start, end in spans)
    return inside / (window.end - window.start)

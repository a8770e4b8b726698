"""Think time: what the users of a closed loop do between their requests, as the records tell it.

At each moment a user waits for the engine, or thinks, or is between two requests because the client itself costs time.
``think_ns`` of a record is the time from the end of the user's answer before to the call that asked for the request.
It contains the lateness of our event loop: a user whose pause is over, or who has none, goes on only when the loop
comes to it. So only the part beyond that lateness, the p99 of the loop lag, counts as thinking. The rest is charged to
the client, and Little's law still finds a slow one. A user who thinks for seconds loses a few thousandths by it.

The cycle of a user is its think time and the request after it, from answer to answer.
"""

from collections.abc import Iterable

import numpy as np

from loadgen.clock import MS
from loadgen.measure.columns import Ints, Mask
from loadgen.measure.limits import OWN_PAUSE_MS, THINKING_PAUSES, THINKING_SHARE, THINKING_USERS
from loadgen.measure.load import Window
from loadgen.measure.records import Records
from loadgen.record import RequestRecord

Periods = tuple[Ints, Ints]
"""When each begins, and when it ends."""


def lateness_ns(loop_lag_p99_ms: float | None) -> int:
    """Return how much of each pause between two requests the event loop's lateness may explain, ns."""
    return int(max(OWN_PAUSE_MS, loop_lag_p99_ms or 0.0) * MS)


def thinking_ns(records: Records, lateness: int) -> Ints:
    """Return how long a user thought before each request, ns; ``lateness`` of the pause is not counted."""
    return np.asarray(np.maximum(0, np.maximum(0, records.ints("think_ns")) - lateness))


def has_think_time(measured: Records, lateness: int) -> bool:
    """Whether users of a closed loop think: on average as many as the limits say."""
    thinking = int(thinking_ns(measured, lateness)[_is_thoughtful(measured, lateness)].sum())
    if not thinking:
        return False
    ended = measured.where_known("sent_ns", "end_ns")
    waiting = int((ended.ints("end_ns") - ended.ints("sent_ns")).sum())
    users = len(users_of(measured))
    return users * thinking / (thinking + waiting) > min(THINKING_SHARE * users, THINKING_USERS)


def _is_thoughtful(measured: Records, lateness: int) -> Mask:
    """Return of each request whether more than a few of its user's pauses are longer than the loop's lateness."""
    users, user_of = np.unique(measured.ints("user"), return_inverse=True)
    pauses = np.bincount(user_of, weights=measured.known("think_ns"), minlength=len(users))
    long = np.bincount(user_of, weights=measured.ints("think_ns") > lateness, minlength=len(users))
    return np.asarray((long / np.maximum(pauses, 1) > THINKING_PAUSES)[user_of])


def users_of(records: Records) -> set[int]:
    """Return the numbers of the users who sent requests."""
    return set(np.unique(records.where_known("user", "sent_ns").ints("user")).tolist())


def whole_cycles(measured: Iterable[RequestRecord], users: Iterable[int]) -> Window | None:
    """Return the window in which each of some users is between two of its answers; None where there is none.

    It starts when the last of them has its first answer, and ends when the first of them has its last one. Later that
    user may still think, or have no more to ask: its records do not tell which. So every cycle that touches the window
    is known from its start to its end.
    """
    wanted = list(users)
    answered = Records.of(measured).where_known("user", "sent_ns", "end_ns")
    answered = answered.where(np.isin(answered.ints("user"), wanted))
    user, ends = answered.ints("user"), answered.ints("end_ns")
    order = np.lexsort((ends, user))
    _, firsts = np.unique(user[order], return_index=True)
    if not wanted or len(firsts) < len(set(wanted)):
        return None
    lasts = np.append(firsts[1:], len(order)) - 1
    start, end = int(ends[order[firsts]].max()), int(ends[order[lasts]].min())
    return Window(start, end) if end > start else None


def think_periods(measured: Records, lateness: int) -> Periods:
    """Return when users thought, one period for each pause that is longer than ``lateness``, ns."""
    sent = measured.where_known("sent_ns")
    thought = thinking_ns(sent, lateness)
    ends = sent.ints("sent_ns") - lateness
    return (ends - thought)[thought > 0], ends[thought > 0]


def mean_number(periods: Periods, window: Window) -> float:
    """Return how many periods cover a moment of the window, on average."""
    starts, ends = periods
    inside = np.maximum(0, np.minimum(ends, window.end) - np.maximum(starts, window.start))
    return int(inside.sum()) / (window.end - window.start)

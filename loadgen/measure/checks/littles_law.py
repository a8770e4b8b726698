"""Little's law (J. Little, 1961): what the requests' times add up to, against the users that were asked for.

Of a closed loop, N = X (R + Z): N users, of whom X R wait for the engine and X Z think. What is missing of N was
between two requests, at the client's cost. Think time counts only beyond what the event loop's lateness can explain
(``loadgen.measure.thinking``), so that a slow client is not taken for thoughtful users.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loadgen.measure import thinking
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN, up_to
from loadgen.measure.checks.load import excess, in_flight
from loadgen.measure.columns import ABSENT
from loadgen.measure.evidence import Evidence
from loadgen.measure.limits import FAILED_SHARE_LIMIT, LITTLE_INVALID, LITTLE_WARN
from loadgen.measure.load import Spans, Window, belonging_to
from loadgen.measure.records import Records
from loadgen.metrics import REQUESTS_PER_MINUTE
from loadgen.printable import counted, percent
from loadgen.record import Outcome


@dataclass(frozen=True, slots=True)
class _Occupied:
    """A window of a closed loop: the users asked for, and what they did, each as the mean number of them."""

    users: int
    waiting: float
    """For the engine: requests in flight."""
    until_token: float
    """For a first token, of those waiting."""
    thinking: float
    connecting: float
    failed: float
    """Share of the requests that had no answer."""
    senders: int | None
    """Users who sent requests; None where the records do not name them, and of users who think."""

    @property
    def used(self) -> float:
        """Share of the users that were waiting or thinking."""
        return (self.waiting + self.thinking) / self.users

    @property
    def value(self) -> str:
        """What the users did, as text."""
        text = f"{self.waiting:.2f} of {self.users} users waited for the engine"
        if self.used > 1 + LITTLE_WARN:
            text = f"{self.waiting:.2f} requests in flight, {self.users} users asked for"
        if self.until_token:
            text += f": {self.until_token:.2f} for a first token, {self.waiting - self.until_token:.2f} for more"
        return f"{text}; {self.thinking:.2f} thought" if self.thinking else text


@check(
    id="littles-law",
    title="Little's law",
    limit=f"at most {percent(LITTLE_WARN)} of the users neither waiting nor thinking",
)
def little(e: Evidence) -> Finding:
    """Check whether users were always waiting for the engine or thinking, and for what they waited: N = X (R + Z).

    For an open loop N is the area under the requests in flight, and X R the rate times the mean time of those due in
    its window.
    """
    if e.arrivals is not None:
        return _open_little(e)
    found = list(_occupied(e))
    if not found:
        return Finding(Status.NOT_CHECKED)
    worst = max(found, key=lambda o: abs(o.used - 1))
    apart = abs(worst.used - 1)
    limit = percent(LITTLE_WARN)
    if apart <= LITTLE_WARN:
        return Finding(Status.OK, worst.value, limit)
    status = Status.INVALID if apart > LITTLE_INVALID else Status.WARN
    return Finding(status, worst.value, limit, _advice(e, worst), _effect(worst))


def reads_low(e: Evidence) -> str | None:
    """Return how far requests/min of a closed loop may be below those of users who always wait or think.

    None where no window has all users at work.
    """
    found = list(_occupied(e)) if e.arrivals is None else []
    worst = min(found, key=lambda o: o.used, default=None)
    return None if worst is None else _effect(worst)


def _effect(worst: _Occupied) -> str:
    """Return how far requests/min may be from those of the users asked for.

    Had the others waited, too, at most as many more answers had come: with more users an answer takes no less time.
    """
    if worst.used > 1 + LITTLE_WARN:
        return f"{up_to(REQUESTS_PER_MINUTE.label, worst.used - 1, 'high')} for {counted(worst.users, 'user')}."
    return f"{up_to(REQUESTS_PER_MINUTE.label, max(0.0, 1 - worst.used), 'low')} at {counted(worst.users, 'user')}."


def _advice(e: Evidence, worst: _Occupied) -> str:
    """Say where the users were that neither waited nor thought, or who sent more requests than they."""
    if worst.used > 1:
        return excess(e.measured, worst.users)
    if worst.senders is not None and worst.senders < worst.users:
        return f"Only {worst.senders} users sent requests."
    between = worst.users - worst.waiting - worst.thinking
    if worst.failed > FAILED_SHARE_LIMIT:
        return (
            f"{percent(worst.failed)} of the requests there failed, and users pause after a refusal: {between:.2f} of "
            "them were not waiting. See the failures; this check says nothing about the client then."
        )
    return (
        f"The other {between:.2f} were between two requests: {worst.connecting:.2f} connecting, the rest in this "
        "client or in the locustfile's own code. More --processes make the client faster."
    )


def _open_little(e: Evidence) -> Finding:
    assert e.arrivals is not None
    if e.arrivals.window_ns is None:
        return Finding(Status.NOT_CHECKED)
    window = Window(*e.arrivals.window_ns)
    records = _touching(e.measured, window)
    if not records:
        return Finding(Status.NOT_CHECKED)
    area = float(Spans.of(records).in_flight(np.array([window.start, window.end], dtype=np.int64))[0])
    ended = e.measured.where_known("sent_ns", "end_ns")
    sent = ended.ints("sent_ns")
    inside = (window.start <= sent) & (sent < window.end)
    times = (ended.ints("end_ns") - sent)[inside]
    expected = int(times.sum()) / (window.end - window.start)
    value = f"{area:.2f} in flight, rate times mean time {expected:.2f}"
    # The two differ by what reaches over the edges of the window.
    edge = int(times.max(initial=0)) / (window.end - window.start)
    limit = LITTLE_WARN + edge
    if abs(area - expected) <= limit * max(expected, 1.0):
        return Finding(Status.OK, value, percent(limit))
    effect = (
        f"Requests in flight grew or fell over the window: latencies depend on how long the run lasts, {NOT_KNOWN}."
    )
    return Finding(Status.WARN, value, percent(limit), "A longer --run-time, or a lower --rate.", effect)


def _occupied(e: Evidence) -> Iterator[_Occupied]:
    """Look at each window of a closed loop of more than one user, or of a sweep."""
    for load in e.loads:
        if load.window_ns is None or (load.concurrency == 1 and not e.steps):
            continue
        window = Window(*load.window_ns)
        records = _touching(e.measured, window)
        if not records:
            continue
        yield _Occupied(
            users=load.concurrency,
            waiting=in_flight(records, window),
            until_token=thinking.mean_number(_until_token(records), window),
            thinking=thinking.mean_number(thinking.think_periods(e.measured, e.lateness_ns), window) if e.thinks else 0,
            connecting=thinking.mean_number(_connecting(e.measured), window),
            failed=_failed_share(e.measured, window),
            senders=None if e.thinks else len(thinking.users_of(records)) or None,
        )


def _touching(measured: Records, window: Window) -> Records:
    """Return the requests that were in flight at some time of a window."""
    known = measured.where_known("sent_ns", "end_ns")
    return known.where((known.ints("end_ns") > window.start) & (known.ints("sent_ns") < window.end))


def _failed_share(measured: Records, window: Window) -> float:
    """Return the share of a window's requests that had no answer, those that could not be sent included."""
    found = belonging_to(window, measured)
    return int((~found.equal("outcome", Outcome.OK)).sum()) / len(found) if found else 0.0


def _until_token(sent: Records) -> thinking.Periods:
    starts, firsts = sent.ints("sent_ns"), sent.ints("first_token_ns")
    return starts, np.where(firsts == ABSENT, starts, firsts)


def _connecting(measured: Records) -> thinking.Periods:
    known = measured.where_known("connect_ns", "connected_ns")
    return known.ints("connect_ns"), known.ints("connected_ns")

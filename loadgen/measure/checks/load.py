"""Whether the load was what was asked for, and the engine had no other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loadgen.measure.evidence import Check, Evidence, Status
from loadgen.measure.facts import EngineCounters
from loadgen.measure.limits import LITTLE_INVALID, LITTLE_WARN
from loadgen.measure.load import Spans, Window, full_window, peak_in_flight
from loadgen.record import Outcome, RequestRecord


def load_model(e: Evidence) -> Check:
    """Tell which kind of load it was: what its latencies mean depends on it."""
    if e.arrivals is not None:
        return Check("load model", Status.OK, "open loop: latencies count from the schedule")
    text = "closed loop: a stall of the server holds its users up, and shows once for each of them"
    return Check("load model", Status.OK, text, advice="For latencies at a given rate: locustfiles/rate.py.")


def concurrency(e: Evidence) -> Check:
    """Tell whether as many requests were in flight as were asked for."""
    name = "concurrency as asked"
    if e.arrivals is not None:
        return Check(name, Status.NOT_CHECKED, advice="An open loop has as many in flight as come together.")
    if e.users_changed:
        advice = "Start a new run instead of changing the users of one."
        return Check(name, Status.WARN, "users were changed during the run", str(e.users), advice)
    if e.steps:
        return _concurrency_of_steps(name, e)
    peak = peak_in_flight(e.measured)
    if peak == 0:
        return Check(name, Status.NOT_CHECKED)
    value = f"{peak} in flight at most"
    if peak == e.users:
        return Check(name, Status.OK, value, str(e.users))
    advice = "The users were never all waiting at once: more --requests, or a smaller --users."
    return Check(name, Status.WARN, value, str(e.users), advice)


def _concurrency_of_steps(name: str, e: Evidence) -> Check:
    found = []
    for step in e.steps:
        if step.window_ns is None:
            continue
        start, end = step.window_ns
        inside = [r for r in e.measured if r.sent_ns is not None and (r.end_ns or 0) > start and r.sent_ns < end]
        found.append((step.concurrency, peak_in_flight(inside)))
    if not found:
        return Check(name, Status.NOT_CHECKED)
    wrong = [f"{peak} instead of {asked}" for asked, peak in found if peak != asked]
    if not wrong:
        return Check(name, Status.OK, "in every step", "equal")
    return Check(name, Status.WARN, ", ".join(wrong), "equal", "Users could not start, or were started too late.")


@dataclass(frozen=True, slots=True)
class _Occupied:
    """A window, how many users there were (None: an open loop), and what was in flight."""

    users: int | None
    in_flight: float
    waiting: float
    """Before the first token, of what was in flight: arrivals per second times TTFT."""

    @property
    def used(self) -> float:
        """Share of the users that were waiting for the engine."""
        return 1.0 if not self.users else self.in_flight / self.users


def little(e: Evidence) -> Check:
    """Tell whether users were always waiting for the engine, by Little's law, and for what: N = X R, phase by phase.

    J. Little, 1961. N is the number of users that were asked for; X R is what the requests' times add up to. For an
    open loop N is the area under the requests in flight, and X R the rate times the mean time of those due in it.
    """
    name = "Little's law"
    found = list(_occupied(e))
    if not found:
        return Check(name, Status.NOT_CHECKED)
    if found[0].users is None:
        return _open_little(name, e, found[0])
    worst = max(found, key=lambda o: abs(o.used - 1))
    value = f"{worst.in_flight:.2f} of {worst.users} users waited for the engine"
    if worst.waiting:
        value += f": {worst.waiting:.2f} for a first token, {worst.in_flight - worst.waiting:.2f} for more"
    limit = f"{LITTLE_WARN:.0%}"
    apart = abs(worst.used - 1)
    if apart <= LITTLE_WARN:
        return Check(name, Status.OK, value, limit)
    status = Status.INVALID if apart > LITTLE_INVALID else Status.WARN
    return Check(
        name, status, value, limit, "The others were between two requests: this client, or connecting, is slow."
    )


def _open_little(name: str, e: Evidence, found: _Occupied) -> Check:
    assert e.arrivals is not None
    assert e.arrivals.window_ns is not None
    window = Window(*e.arrivals.window_ns)
    inside = [r for r in e.measured if r.sent_ns is not None and window.start <= r.sent_ns < window.end and r.end_ns]
    expected = sum((r.end_ns or 0) - (r.sent_ns or 0) for r in inside) / (window.end - window.start)
    value = f"{found.in_flight:.2f} in flight, rate times mean time {expected:.2f}"
    # The two differ by what reaches over the edges of the window.
    edge = max(((r.end_ns or 0) - (r.sent_ns or 0) for r in inside), default=0) / (window.end - window.start)
    limit = LITTLE_WARN + edge
    if abs(found.in_flight - expected) <= limit * max(expected, 1.0):
        return Check(name, Status.OK, value, f"{limit:.0%}")
    return Check(name, Status.WARN, value, f"{limit:.0%}", "Requests in flight grew or fell over the window.")


def _occupied(e: Evidence) -> Iterator[_Occupied]:
    """Look at each window."""
    for users, window in _windows(e):
        records = [r for r in e.measured if r.sent_ns is not None and r.end_ns is not None and r.end_ns > window.start]
        records = [r for r in records if (r.sent_ns or 0) < window.end]
        if not records:
            continue
        edges = np.array([window.start, window.end], dtype=np.int64)
        in_flight = float(Spans.of(records).in_flight(edges)[0])
        yield _Occupied(users, in_flight, _overlap([_until_token(r) for r in records], window))


def _windows(e: Evidence) -> Iterator[tuple[int | None, Window]]:
    if e.arrivals is not None:
        if e.arrivals.window_ns is not None:
            yield None, Window(*e.arrivals.window_ns)
    elif e.steps:
        for step in e.steps:
            if step.window_ns is not None:
                yield step.concurrency, Window(*step.window_ns)
    elif (window := full_window(e.measured, e.users)) is not None and e.users > 1:
        yield e.users, window


def _until_token(r: RequestRecord) -> tuple[int, int]:
    start = r.sent_ns or 0
    return start, start if r.first_token_ns is None else r.first_token_ns


def _overlap(spans: Sequence[tuple[int, int]], window: Window) -> float:
    inside = sum(max(0, min(end, window.end) - max(start, window.start)) for start, end in spans)
    return inside / (window.end - window.start)


def foreign_load(e: Evidence) -> Check:
    """Tell whether the engine had other requests than ours."""
    name = "no other load on the engine"
    if e.counters is None:
        return Check(name, Status.NOT_CHECKED, advice="The engine has no /metrics that tell.")
    before, after = e.counters
    busy = (before.running or 0) + (before.waiting or 0)
    if busy > 0:
        return Check(
            name, Status.INVALID, f"{busy:.0f} requests before our first", "0", "Somebody else uses this engine."
        )
    # A request that we gave up may still occupy the engine.
    given_up = sum(r.sent_ns is not None and r.outcome is not Outcome.OK for r in e.records)
    left = (after.running or 0) + (after.waiting or 0)
    if left > given_up:
        limit = f"0 to {given_up}" if given_up else "0"
        return Check(
            name, Status.INVALID, f"{left:.0f} requests after our last", limit, "Somebody else uses this engine."
        )
    return _ended_requests(name, e, before, after)


def _ended_requests(name: str, e: Evidence, before: EngineCounters, after: EngineCounters) -> Check:
    """Compare the engine's count of finished requests with ours."""
    if before.requests is None or after.requests is None:
        status = Status.NOT_CHECKED if before.running is None else Status.OK
        value = "idle before our first request and after our last" if status is Status.OK else None
        return Check(name, status, value)
    theirs = after.requests - before.requests
    ended = sum(r.outcome is Outcome.OK for r in e.records)
    sent = sum(r.sent_ns is not None for r in e.records)
    value = f"{theirs:.0f} requests ended there, {ended} complete ones of ours"
    limit = f"{ended}" if ended == sent else f"{ended} to {sent}"
    if theirs > sent:
        return Check(name, Status.INVALID, value, limit, "Somebody else uses this engine: measure it alone.")
    if theirs < ended:
        advice = (
            "Its /metrics are of one of several replicas, or it was started anew: they do not tell of all requests."
        )
        return Check(name, Status.WARN, value, limit, advice)
    return Check(name, Status.OK, value, limit)

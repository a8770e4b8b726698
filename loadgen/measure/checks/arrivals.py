"""Whether an open loop's requests were those of its schedule, and were sent on time."""

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import MS, SECOND
from loadgen.measure.check import OPEN_LOOP, Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN
from loadgen.measure.evidence import Evidence
from loadgen.measure.latency import shortest_ms
from loadgen.measure.limits import DROPPED_LIMIT, LAG_INVALID, LAG_LIMIT_MS, LAG_WARN, SCHEDULE_EDGE_NS
from loadgen.measure.records import Records
from loadgen.measure.statistics import percentile
from loadgen.printable import percent
from loadgen.record import Outcome


@check(
    id="arrivals",
    title="arrivals as asked",
    limit="each time of the schedule has its request, none is dropped",
    scope=OPEN_LOOP,
)
def arrivals(e: Evidence) -> Finding:
    """Check that each time of the schedule, drawn again from its seed, has its request, and that there are no others.

    How late requests were sent is another question, of :func:`send_lag`.
    """
    assert e.arrivals is not None
    due = e.measured.where_known("scheduled_ns")
    dropped = int(due.equal("outcome", Outcome.DROPPED).sum())
    limit = f"{e.arrivals.rate:g}/s, cv {e.arrivals.cv:g}, none dropped"
    value = _described(due, dropped)
    missing, others = _compared(e, np.sort(due.ints("scheduled_ns")))
    if missing or others:
        value += f", {missing} missing" * bool(missing) + f", {others} not in the schedule" * bool(others)
        advice = "The requests were not those of the schedule, which its seed gives again: see the log of each process."
        status = Status.INVALID if missing + others > DROPPED_LIMIT * (len(due) + missing) else Status.WARN
        effect = f"requests/min and latencies are of another load than asked for; they differ, {NOT_KNOWN}."
        return Finding(status, value, limit, advice, effect)
    if dropped:
        status = Status.INVALID if dropped > DROPPED_LIMIT * len(due) else Status.WARN
        sent = 1 - dropped / len(due)
        effect = (
            f"The load was {percent(1 - sent, 1)} lower than asked for: requests/min and latencies are of "
            f"{sent * e.arrivals.rate:.3g} requests/s, not of {e.arrivals.rate:g}."
        )
        return Finding(status, value, limit, "Raise --max-in-flight, or ask for less.", effect)
    if e.schedule is None:
        return Finding(
            Status.NOT_CHECKED,
            value,
            limit,
            "No record has a scheduled time: the run may have ended before the first request was due.",
        )
    return Finding(Status.OK, value, limit)


def _described(due: Records, dropped: int) -> str:
    """Return how many requests were due and dropped, and at which rate the others were sent."""
    gaps = np.diff(np.sort(due.where_known("sent_ns").ints("sent_ns") / SECOND))
    value = f"{dropped} of {len(due)} dropped" if dropped else f"{len(due)} due, none dropped"
    if not gaps.any():
        return value
    return f"{value}, sent {1 / gaps.mean():,.2f}/s, cv {gaps.std() / gaps.mean():.2f}"


def _compared(e: Evidence, due: NDArray[np.int64]) -> tuple[int, int]:
    """Return how many times of the schedule have no request, and how many requests have no time in it.

    Both are counted up to the last request; the partners of the last ones may lie a little beyond.
    """
    if e.schedule is None or not len(due):
        return 0, 0
    # A run that made all its requests knows how many times they are of, however near the next one is.
    schedule = e.schedule[: e.planned] if e.ended == "completed" else e.schedule
    # Where a run is ended from outside, some processes had come a little further than others.
    last = int(due[-1]) - (0 if e.ended == "completed" else SCHEDULE_EDGE_NS)
    tolerance = e.clock_tolerance_ns
    expected, found = schedule[schedule <= last], due[due <= last]
    if len(expected) == len(found) and (np.abs(expected - found) <= tolerance).all():
        return 0, 0
    return (
        _unmatched(expected, due[due <= last + tolerance], tolerance),
        _unmatched(found, schedule[schedule <= last + tolerance], tolerance),
    )


def _unmatched(times: NDArray[np.int64], others: NDArray[np.int64], tolerance: int) -> int:
    """Return how many of some times, in order, have no partner of their own among others; both sorted."""
    at = found = 0
    for time in times.tolist():
        while at < len(others) and others[at] < time - tolerance:
            at += 1
        if at < len(others) and others[at] <= time + tolerance:
            at, found = at + 1, found + 1
    return len(times) - found


@check(
    id="send-lag",
    title="sent on time",
    limit=f"p99 at most {LAG_LIMIT_MS:g} ms, or {percent(LAG_WARN)} of the median TTFT",
    scope=OPEN_LOOP,
)
def send_lag(e: Evidence) -> Finding:
    """Check how much later than scheduled requests were sent."""
    sent = e.measured.where_known("sent_ns", "scheduled_ns")
    lags = (sent.ints("sent_ns") - sent.ints("scheduled_ns")) / MS
    if not len(lags):
        return Finding(Status.NOT_CHECKED)
    p99 = percentile(lags, 0.99)
    # Of an answer that was not streamed only the end is known.
    times = shortest_ms(e.ok)
    middle = percentile(times, 0.5) if len(times) else 0.0
    limit = max(LAG_LIMIT_MS, LAG_WARN * middle)
    value = f"p99 {p99:.2f} ms late"
    if p99 <= limit:
        return Finding(Status.OK, value, f"{limit:.2f} ms")
    status = Status.INVALID if p99 > max(LAG_LIMIT_MS, LAG_INVALID * middle) else Status.WARN
    advice = "Requests left this client late, connecting included: more --processes, or a lower --rate."
    effect = (
        f"Latencies from the schedule read up to {p99:.1f} ms high (p99) by this client; those from the send are not "
        "affected."
    )
    return Finding(status, value, f"{limit:.2f} ms", advice, effect)

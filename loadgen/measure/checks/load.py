"""Whether the load was what was asked for."""

from collections.abc import Sequence

from loadgen.clock import SECOND
from loadgen.measure import thinking
from loadgen.measure.evidence import Check, Evidence, Status
from loadgen.measure.facts import StepFacts
from loadgen.measure.load import Window, peak_in_flight
from loadgen.printable import counted
from loadgen.record import Outcome, RequestRecord


def load_model(e: Evidence) -> Check:
    """State which kind of load it was: what its latencies mean depends on it."""
    if e.arrivals is not None:
        return Check("load model", Status.OK, "open loop: latencies count from the schedule")
    text = "closed loop: a stall of the server also stalls its users, and shows once for each of them"
    return Check("load model", Status.OK, text, advice="For latencies at a given rate: locustfiles/rate.py.")


def concurrency(e: Evidence) -> Check:
    """Check that as many users were at work as were asked for: in flight, or asking and thinking."""
    name = "concurrency as asked"
    if e.arrivals is not None:
        return Check(name, Status.NOT_CHECKED, advice="An open loop has as many in flight as come together.")
    if e.shaped:
        advice = "Only stages of 5 s or more have figures, 30 at most; those over time remain."
        return Check(name, Status.WARN, "the LoadTestShape changed the number of users all the time", None, advice)
    if e.users_changed:
        value = f"the number of users was changed during the run; {_senders(e.measured)}"
        advice = "No part of the run has the load that was asked for: start a new run for each number of users."
        return Check(name, Status.INVALID, value, str(e.users), advice)
    if e.steps:
        return _concurrency_of_steps(name, e)
    return _users_who_think(name, e) if e.thinks else _peak(name, e)


def _peak(name: str, e: Evidence) -> Check:
    """Compare the most requests in flight at once with the users asked for."""
    peak = peak_in_flight(e.measured)
    if peak == 0:
        return Check(name, Status.NOT_CHECKED)
    value = f"{peak} in flight at most"
    if peak == e.users:
        return Check(name, Status.OK, value, str(e.users))
    advice = "The users were never all waiting at once: more --requests, or a smaller --users."
    if peak > e.users:  # the speed of one user is that of one request at a time
        status = Status.INVALID if e.users == 1 else Status.WARN
        return Check(name, status, value, str(e.users), excess(e.measured, e.users))
    return Check(name, Status.WARN, value, str(e.users), advice)


def excess(measured: Sequence[RequestRecord], users: int) -> str:
    """Say of a load with more requests in flight than users asked for who sent them, as far as the records tell."""
    first_sent: dict[int, int] = {}
    for r in measured:
        if r.user is not None and r.sent_ns is not None:
            first_sent[r.user] = min(r.sent_ns, first_sent.get(r.user, r.sent_ns))
    said = "More requests were in flight than users were asked for."
    if len(first_sent) > users:
        times = sorted(first_sent.values())
        since = (times[users] - times[0]) / SECOND
        return f"{said} {len(first_sent)} users sent requests, more than {users} from second {since:.1f} on."
    if any(peak_in_flight([r for r in measured if r.user == user]) > 1 for user in first_sent):
        return f"{said} Some users had several requests in flight at once."
    return said


def _senders(measured: Sequence[RequestRecord]) -> str:
    number = len(thinking.users_of(measured))
    return f"{counted(number, 'user')} sent requests" if number else "the records do not name them"


def _users_who_think(name: str, e: Evidence) -> Check:
    """Compare the users who ask and think with those asked for; with think time few are in flight at once."""
    users = thinking.users_of(e.measured)
    limit = str(e.users)
    if len(users) < e.users:
        advice = "The others sent none: more --requests, or a longer --run-time."
        return Check(name, Status.WARN, f"{len(users)} users sent requests", limit, advice)
    (load,) = e.loads
    if load.window_ns is None:
        value = f"{len(users)} users, but never all in their cycles at once"
        advice = (
            "The last user had its first answer when another already had its last one: more --requests, or a longer "
            "--run-time."
        )
        return Check(name, Status.WARN, value, limit, advice)
    window = Window(*load.window_ns)
    waiting = in_flight(e.measured, window)
    thought = thinking.mean_number(thinking.think_spans(e.measured, e.lateness_ns), window)
    value = f"{len(users)} users asked and thought: on average {waiting:.2f} waited, {thought:.2f} thought"
    if len(users) > e.users:
        return Check(name, Status.WARN, value, limit, "More users sent requests than were asked for.")
    return Check(name, Status.OK, value, limit)


def in_flight(measured: Sequence[RequestRecord], window: Window) -> float:
    """Return the mean number of requests in flight in a window."""
    spans = [(r.sent_ns, r.end_ns) for r in measured if r.sent_ns is not None and r.end_ns is not None]
    return thinking.mean_number(spans, window)


def _concurrency_of_steps(name: str, e: Evidence) -> Check:
    found = [
        (load.concurrency, _at_work(e, load, Window(*load.window_ns))) for load in e.loads if load.window_ns is not None
    ]
    if not found:
        return Check(name, Status.NOT_CHECKED)
    wrong = [f"{number} instead of {asked}" for asked, number in found if number != asked]
    if not wrong:
        return Check(name, Status.OK, "in every step", "equal")
    advice = "These steps had another load than their number of users says: see the log of each process."
    if any(r.outcome is not Outcome.OK for r in e.measured):
        advice = "Requests failed, and users pause after a refusal: see the failures."
    return Check(name, Status.WARN, ", ".join(wrong), "equal", advice)


def _at_work(e: Evidence, load: StepFacts, window: Window) -> int:
    """Return the most requests in flight at once in the window of a step; with think time the users of the step."""
    if e.thinks:
        return len(thinking.users_of(r for r in e.measured if r.step == load.number))
    inside = [
        r for r in e.measured if r.sent_ns is not None and (r.end_ns or 0) > window.start and r.sent_ns < window.end
    ]
    return peak_in_flight(inside)

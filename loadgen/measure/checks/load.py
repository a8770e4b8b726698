"""Whether the load was what was asked for."""

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure import thinking
from loadgen.measure.check import Finding, Scope, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import StepFacts
from loadgen.measure.load import Window, peak_in_flight
from loadgen.measure.records import Records
from loadgen.printable import counted

_CLOSED_LOOP = Scope(
    "closed loops", lambda e: e.arrivals is None, "An open loop has as many in flight as come together."
)


@check(id="load-model", title="load model", limit="none: it states the load model")
def load_model(e: Evidence) -> Finding:
    """State which kind of load it was: what its latencies mean depends on it."""
    if e.arrivals is not None:
        return Finding(Status.OK, "open loop: latencies count from the schedule")
    text = "closed loop: a stall of the server also stalls its users, and shows once for each of them"
    return Finding(Status.OK, text, advice="For latencies at a given rate: locustfiles/rate.py.")


@check(
    id="concurrency",
    title="concurrency as asked",
    limit="as many users at work as were asked for",
    scope=_CLOSED_LOOP,
)
def concurrency(e: Evidence) -> Finding:
    """Check that as many users were at work as were asked for: in flight, or asking and thinking."""
    if e.shaped:
        value = "the LoadTestShape changed the number of users all the time"
        limit = "stages of 5 s or more, at most 30"
        advice = "Keep each number of users for 5 s or more."
        effect = "No figure is of a number of users; those over time remain."
        return Finding(Status.WARN, value, limit, advice, effect)
    if e.users_changed:
        value = f"the number of users was changed during the run; {_senders(e.measured)}"
        advice = "Start a new run for each number of users."
        effect = "No part of the run has the load that was asked for, and no figure is of a number of users."
        return Finding(Status.INVALID, value, str(e.users), advice, effect)
    if e.steps:
        return _concurrency_of_steps(e)
    return _users_who_think(e) if e.thinks else _peak(e)


def _peak(e: Evidence) -> Finding:
    """Compare the most requests in flight at once with the users asked for."""
    peak = peak_in_flight(e.measured)
    if peak == 0:
        return Finding(Status.NOT_CHECKED)
    value = f"{peak} in flight at most"
    if peak == e.users:
        return Finding(Status.OK, value, str(e.users))
    effect = f"The figures are of up to {counted(peak, 'request')} in flight at once, not of {e.users:,}."
    if peak > e.users:  # the speed of one user is that of one request at a time
        if e.users == 1:
            effect += f" tokens/s of one user may read low, {NOT_KNOWN}."
        status = Status.INVALID if e.users == 1 else Status.WARN
        return Finding(status, value, str(e.users), excess(e.measured, e.users), effect)
    advice = "The users were never all waiting at once: more --requests, or a smaller --users."
    return Finding(Status.WARN, value, str(e.users), advice, effect)


def excess(measured: Records, users: int) -> str:
    """Say of a load with more requests in flight than users asked for who sent them, as far as the records tell."""
    known = measured.where_known("user", "sent_ns")
    user, sent = known.ints("user"), known.ints("sent_ns")
    in_turn = np.lexsort((sent, user))
    _, firsts = np.unique(user[in_turn], return_index=True)
    said = "More requests were in flight than users were asked for."
    if len(firsts) > users:
        times = np.sort(sent[in_turn[firsts]])
        since = int(times[users] - times[0]) / SECOND
        return f"{said} {len(firsts)} users sent requests, more than {users} from second {since:.1f} on."
    if _some_overlap(known.where_known("end_ns")):
        return f"{said} Some users had several requests in flight at once."
    return said


def _some_overlap(known: Records) -> bool:
    """Whether some user sent a request before another one of that user had ended."""
    user, sent, end = map(known.ints, ("user", "sent_ns", "end_ns"))
    by_start, by_end = np.lexsort((sent, user)), np.lexsort((end, user))
    same_user = user[by_start][1:] == user[by_start][:-1]
    return bool((same_user & (end[by_end][:-1] > sent[by_start][1:])).any())


def _senders(measured: Records) -> str:
    number = len(thinking.users_of(measured))
    return f"{counted(number, 'user')} sent requests" if number else "the records do not name them"


def _users_who_think(e: Evidence) -> Finding:
    """Compare the users who ask and think with those asked for; with think time few are in flight at once."""
    users = thinking.users_of(e.measured)
    limit = str(e.users)
    if len(users) < e.users:
        advice = "The others sent none: more --requests, or a longer --run-time."
        return Finding(
            Status.WARN, f"{len(users)} users sent requests", limit, advice, _of_so_many(len(users), e.users)
        )
    (load,) = e.loads
    if load.window_ns is None:
        value = f"{len(users)} users, but never all in their cycles at once"
        advice = (
            "The last user had its first answer when another already had its last one: more --requests, or a longer "
            "--run-time."
        )
        return Finding(Status.WARN, value, limit, advice, "There is no requests/min.")
    window = Window(*load.window_ns)
    waiting = in_flight(e.measured, window)
    thought = thinking.mean_number(thinking.think_periods(e.measured, e.lateness_ns), window)
    value = f"{len(users)} users asked and thought: on average {waiting:.2f} waited, {thought:.2f} thought"
    if len(users) > e.users:
        advice = "More users sent requests than were asked for: see the log of each process."
        return Finding(Status.WARN, value, limit, advice, _of_so_many(len(users), e.users))
    return Finding(Status.OK, value, limit)


def _of_so_many(users: int, asked: int) -> str:
    return f"The figures are of {counted(users, 'user')}, not of {asked:,}."


def in_flight(measured: Records, window: Window) -> float:
    """Return the mean number of requests in flight in a window."""
    ended = measured.where_known("sent_ns", "end_ns")
    return thinking.mean_number((ended.ints("sent_ns"), ended.ints("end_ns")), window)


def _concurrency_of_steps(e: Evidence) -> Finding:
    found = [
        (load.concurrency, _at_work(e, load, Window(*load.window_ns))) for load in e.loads if load.window_ns is not None
    ]
    if not found:
        return Finding(Status.NOT_CHECKED)
    wrong = [f"{number} instead of {asked}" for asked, number in found if number != asked]
    if not wrong:
        return Finding(Status.OK, "in every step", "equal")
    advice = "These steps had another load than their number of users says: see the log of each process."
    if len(e.ok) < len(e.measured):
        advice = "Requests failed, and users pause after a refusal: see the failures."
    effect = "The figures of these steps are of the load that they had, not of the users in their row."
    return Finding(Status.WARN, ", ".join(wrong), "equal", advice, effect)


def _at_work(e: Evidence, load: StepFacts, window: Window) -> int:
    """Return the most requests in flight at once in the window of a step; with think time the users of the step."""
    if e.thinks:
        return len(thinking.users_of(e.measured.where(e.measured.ints("step") == load.number)))
    sent = e.measured.where_known("sent_ns")
    return peak_in_flight(sent.where((sent.ints("end_ns") > window.start) & (sent.ints("sent_ns") < window.end)))

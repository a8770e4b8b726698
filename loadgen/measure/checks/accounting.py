"""Whether everything is there."""

from collections import Counter

import numpy as np

from loadgen.clock import MS
from loadgen.measure.causes import CLIENT_LIMIT_ADVICE, common_age_s, refused_since_s
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.evidence import Evidence, SoFar
from loadgen.measure.facts import StepFacts, WorkerFacts
from loadgen.measure.limits import CLOCKS_LIMIT_MS, ENOUGH_REQUESTS, FAILED_SHARE_LIMIT
from loadgen.measure.records import Records
from loadgen.printable import counted
from loadgen.record import Outcome, Phase


@check(id="run-complete", title="run complete", limit="the run came to its own end")
def run_complete(e: Evidence) -> Finding:
    """Check that the run came to its own end."""
    limit = "an end"
    done = len(e.measured)
    of = f"{done} of {e.planned} requests" if e.planned is not None else f"{done} requests"
    figures = "The figures are of the requests that had ended."
    if e.ended is None:
        value = f"cut short: {done} requests recorded, the run's end is missing"
        return Finding(Status.INCONCLUSIVE, value, limit, f"{figures} Repeat the run.")
    if e.ended_why is not None:
        value = f"broken off after {of}: {e.ended_why}"
        return Finding(Status.INCONCLUSIVE, value, limit, f"{figures} Correct that, and repeat the run.")
    if e.ended == "interrupted" and e.sigint:
        advice = f"{figures} Repeat the run, and let it come to its end."
        return Finding(Status.INCONCLUSIVE, f"interrupted by Ctrl-C after {of}", limit, advice)
    if e.ended == "interrupted":
        advice = f"{figures} Locust was told to stop: SIGTERM, its web UI, a load shape or a program can do that."
        return Finding(Status.INCONCLUSIVE, f"stopped after {of}", limit, advice)
    if e.ended == "completed" and e.planned is not None and done < e.planned:
        advice = "The load came to its end, and has fewer records: see also 'every request accounted for'."
        return Finding(Status.INCONCLUSIVE, f"{of} recorded", "all", advice)
    return Finding(Status.OK, f"{done} requests, ended by {'--run-time' if e.ended == 'run-time' else 'itself'}")


@check(id="accounting", title="every request accounted for", limit="one record for each request that was started")
def conservation(e: Evidence) -> Finding:
    """Tell whether every request that was started, by whichever process, has exactly one record."""
    if e.started is None:
        return Finding(Status.NOT_CHECKED)
    distinct = len(set(e.records.values("request_id")))
    value = f"{e.started} started, {len(e.records)} recorded"
    differing = _differing(e)
    if len(e.records) == distinct and not differing and any(_says_too_little(w) for w in e.workers):
        advice = "A lost worker did not report how many requests it had started; there may be more."
        return Finding(Status.NOT_CHECKED, f"at least {value}", "equal", advice)
    if e.started == len(e.records) == distinct and not differing:
        return Finding(Status.OK, value, "equal")
    value += f" ({differing})" if differing else ""
    advice = "Records are missing, or there are too many: see the log, and report this as a bug."
    if e.ended_why is not None:
        advice = "Records are missing; what ended the run early may be why."
    return Finding(Status.INVALID, value, "equal", advice)


def _differing(e: Evidence) -> str:
    """Name the workers whose records are not as many as they say they started; what a lost one says is not known."""
    numbers, counts = np.unique(e.records.ints("worker"), return_counts=True)
    recorded = Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    return ", ".join(
        f"worker {w.number}: {w.started_requests} started, {recorded[w.number]} recorded"
        for w in e.workers
        if not _says_too_little(w) and w.started_requests != recorded[w.number]
    )


def _says_too_little(w: WorkerFacts) -> bool:
    """Whether the number of requests that a worker says it started is a lower bound, or none."""
    return bool(w.lost) or w.started_requests is None


def _workers_so_far(s: SoFar) -> Finding:
    return Finding(Status.INVALID if s.lost else Status.OK, "; ".join(s.lost) or "none lost", "none lost")


@check(
    id="workers",
    title="workers",
    limit=f"none lost, and clocks known to {CLOCKS_LIMIT_MS:g} ms",
    live=_workers_so_far,
)
def workers(e: Evidence) -> Finding:
    """Tell whether all processes stayed until the end, and how far their clocks are apart."""
    if not e.workers:
        return Finding(Status.NOT_CHECKED)
    making = [w for w in e.workers if w.number] or list(e.workers)
    lost = [f"{w.label}: {w.lost}" for w in making if w.lost]
    if lost:
        advice = (
            "The load was not what was asked for. Requests that a lost worker had finished count where their records "
            "are here."
        )
        return Finding(Status.INVALID, f"{len(lost)} of {len(making)} lost: {'; '.join(lost)}", "none lost", advice)
    value = f"{len(making)} process{'' if len(making) == 1 else 'es'}"
    uncertain = max(w.clock_uncertainty_ns for w in making) / MS
    if all(w.clock_offset_ns == 0 for w in making):
        return Finding(Status.OK, value, "none lost")
    walls = max(abs(w.wall_offset_ms) for w in making)
    value += f", clocks put together to {uncertain:.2f} ms, wall clocks up to {walls:.1f} ms apart"
    status = Status.OK if uncertain <= CLOCKS_LIMIT_MS else Status.WARN
    return Finding(
        status,
        value,
        f"{CLOCKS_LIMIT_MS:g} ms",
        "Figures that combine requests of several hosts are no more exact than that.",
    )


def _failures_so_far(s: SoFar) -> Finding:
    limit = f"at most {FAILED_SHARE_LIMIT:.0%}"
    if not s.ended:
        return Finding(Status.NOT_CHECKED, None, limit)
    status = Status.INVALID if s.failed > FAILED_SHARE_LIMIT * s.ended else Status.WARN
    return Finding(status if s.failed else Status.OK, f"{s.failed} of {s.ended}", limit)


@check(
    id="failures",
    title="failures",
    limit=f"at most {FAILED_SHARE_LIMIT:.0%} of the measured requests",
    live=_failures_so_far,
)
def failures(e: Evidence) -> Finding:
    """Tell how many requests failed."""
    # Requests that an interruption aborted say nothing about the server, and the run is inconclusive anyway.
    # Dropped requests never reached it: the check of the arrivals counts them.
    no_fault = {Outcome.OK, Outcome.DROPPED} | ({Outcome.ABORTED} if e.ended == "interrupted" else set())
    records = e.measured.where(~e.measured.equal("outcome", *no_fault))
    failed = Counter(records.tally("outcome"))
    if not e.measured:
        return Finding(Status.NOT_CHECKED)
    total = sum(failed.values())
    cold = int((e.records.equal("phase", Phase.WARMUP) & ~e.records.equal("outcome", Outcome.OK)).sum())
    if not total and cold:
        return Finding(
            Status.WARN, f"{cold} in the warm-up", "0", "The engine may not have been warm: see the records."
        )
    if not total:
        return Finding(Status.OK, "0", "0")
    value = f"{total} of {len(e.measured)}: " + ", ".join(f"{n} {outcome}" for outcome, n in failed.most_common())
    value += _by_step(e, records)
    status = Status.INVALID if total > FAILED_SHARE_LIMIT * len(e.measured) else Status.WARN
    advice = _FAILURE_ADVICE.get(failed.most_common(1)[0][0], "See the errors below and the server's log.")
    if (age := common_age_s(records)) is not None:
        value += f"; {age[1]} of them {age[0]:.1f} s after they were sent"
        advice = "Something ends requests at that age: look for a time limit of a gateway or proxy, or of the server."
    if (since := refused_since_s(e.measured)) is not None:
        value += f"; all of the last {since[1]} were refused, the first of them {since[0]:.1f} s into the measurement"
        advice = "The server stopped accepting connections: did the engine die? See its log."
    return Finding(status, value, f"at most {FAILED_SHARE_LIMIT:.0%}", advice)


_FAILURE_ADVICE = {
    Outcome.ABORTED: "They had no answer yet when they were cancelled; a longer --stop-timeout waits longer at a run's "
    "end.",
    Outcome.RATE_LIMITED: "The server, or a gateway before it, limits the rate of requests: fewer --users, a lower "
    "--rate, or a higher limit there.",
    Outcome.CLIENT_LIMIT: CLIENT_LIMIT_ADVICE,
}
"""What to do about the most frequent outcome."""


def _by_step(e: Evidence, failed: Records) -> str:
    """Return at which steps of a sweep requests failed, as text."""
    steps = {step.number: step.concurrency for step in e.steps}
    counts = Counter(steps[step] for step in failed.values("step") if step in steps)
    if not counts:
        return ""
    return "; " + ", ".join(f"{n} at {counted(users, 'user')}" for users, n in sorted(counts.items()))


@check(
    id="sample-size",
    title="enough samples",
    limit=f"at least {ENOUGH_REQUESTS} complete answers, of a sweep in each step",
)
def sample_size(e: Evidence) -> Finding:
    """Tell whether there are enough answers."""
    n = len(e.ok)
    value, limit = counted(n, "complete answer"), f"at least {ENOUGH_REQUESTS}"
    if n == 0:
        timed = e.ended == "run-time" and not e.measured
        advice = "There is nothing to measure by."
        if timed:
            advice = "No measured request ended before --run-time was over, which includes the warm-up: make it longer."
        return Finding(Status.INCONCLUSIVE, value, limit, advice)
    few = [step for step in e.steps if step.window_ns and _answers(e, step) < ENOUGH_REQUESTS]
    if few and e.steps:
        found = ", ".join(f"{_answers(e, step)} at {counted(step.concurrency, 'user')}" for step in few)
        advice = "The intervals of their figures are rough: a longer --step-time."
        return Finding(Status.WARN, found, f"{limit} in each step", advice)
    if n < ENOUGH_REQUESTS:
        return Finding(Status.WARN, value, limit, "The interval is rough: more --requests.")
    return Finding(Status.OK, value, limit)


def _answers(e: Evidence, step: StepFacts) -> int:
    """Return how many complete answers were sent in a step's window."""
    assert step.window_ns is not None
    start, end = step.window_ns
    sent = e.ok.where_known("sent_ns").ints("sent_ns")
    return int(((start <= sent) & (sent < end)).sum())

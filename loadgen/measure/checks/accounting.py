"""Whether all requests, records and processes are there, and enough of them."""

from collections import Counter

import numpy as np

from loadgen.clock import MS
from loadgen.measure.causes import CLIENT_LIMIT_ADVICE, common_age_s, refused_since_s
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN, main_figure
from loadgen.measure.evidence import Evidence, SoFar
from loadgen.measure.facts import StepFacts, WorkerFacts
from loadgen.measure.limits import CLOCKS_LIMIT_MS, ENOUGH_REQUESTS, FAILED_SHARE_LIMIT
from loadgen.measure.records import Records
from loadgen.printable import counted, percent
from loadgen.record import Outcome, Phase


@check(id="run-complete", title="run complete", limit="the run came to its own end")
def run_complete(e: Evidence) -> Finding:
    """Check that the run came to its own end."""
    limit = "an end"
    done = len(e.measured)
    of = f"{done} of {e.planned} requests" if e.planned is not None else f"{done} requests"
    effect = "The figures are of the requests that had ended."
    if e.ended is None:
        value = f"cut short: {done} requests recorded, the run's end is missing"
        return Finding(Status.INCONCLUSIVE, value, limit, "Repeat the run.", effect)
    if e.ended_why is not None:
        value = f"broken off after {of}: {e.ended_why}"
        return Finding(Status.INCONCLUSIVE, value, limit, "Correct that, and repeat the run.", effect)
    if e.ended == "interrupted" and e.sigint:
        advice = "Repeat the run, and let it come to its end."
        return Finding(Status.INCONCLUSIVE, f"interrupted by Ctrl-C after {of}", limit, advice, effect)
    if e.ended == "interrupted":
        advice = "Locust was told to stop: SIGTERM, its web UI, a load shape or a program can do that."
        return Finding(Status.INCONCLUSIVE, f"stopped after {of}", limit, advice, effect)
    if e.ended == "completed" and e.planned is not None and done < e.planned:
        advice = "The load came to its end, and has fewer records: see also 'every request accounted for'."
        effect = f"The figures are of these {counted(done, 'request')}."
        return Finding(Status.INCONCLUSIVE, f"{of} recorded", "all", advice, effect)
    return Finding(Status.OK, f"{done} requests, ended by {'--run-time' if e.ended == 'run-time' else 'itself'}")


@check(id="accounting", title="every request accounted for", limit="one record for each request that was started")
def conservation(e: Evidence) -> Finding:
    """Check that every request that was started, by whichever process, has exactly one record."""
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
    return Finding(Status.INVALID, value, "equal", advice, _effect_on_accounts(e.started, len(e.records), distinct))


def _effect_on_accounts(started: int, records: int, distinct: int) -> str:
    """Return what missing and repeated records do; how fast a request was that has no record is nowhere kept."""
    found = []
    if distinct < started:
        missing = counted(started - distinct, "request")
        found.append(f"The figures lack {missing} of {started:,}, and how fast these were is not known.")
    if distinct < records:
        found.append(f"The figures have {counted(records - distinct, 'request')} twice.")
    if distinct > started:
        found.append(f"The figures have {counted(distinct - started, 'request')} that nobody is known to have started.")
    return " ".join(found) or "The figures may have requests of one worker in place of another's."


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
    """Check that all processes stayed until the end, and how far their clocks are apart."""
    if not e.workers:
        return Finding(Status.NOT_CHECKED)
    making = [w for w in e.workers if w.number] or list(e.workers)
    lost = [f"{w.label}: {w.lost}" for w in making if w.lost]
    if lost:
        effect = (
            "The load was not what was asked for. Requests that a lost worker had finished count where their records "
            "are here."
        )
        advice = "See the log of each lost worker, and repeat the run."
        value = f"{len(lost)} of {len(making)} lost: {'; '.join(lost)}"
        return Finding(Status.INVALID, value, "none lost", advice, effect)
    value = f"{len(making)} process{'' if len(making) == 1 else 'es'}"
    uncertain = max(w.clock_uncertainty_ns for w in making) / MS
    if all(w.clock_offset_ns == 0 for w in making):
        return Finding(Status.OK, value, "none lost")
    walls = max(abs(w.wall_offset_ms) for w in making)
    value += f", clocks known to {uncertain:.2f} ms, wall clocks up to {walls:.1f} ms apart"
    limit = f"{CLOCKS_LIMIT_MS:g} ms"
    if uncertain <= CLOCKS_LIMIT_MS:
        return Finding(Status.OK, value, limit)
    advice = "What helps: workers with a shorter round trip to the master."
    return Finding(Status.WARN, value, limit, advice, _effect_of_clocks(e, uncertain))


def _effect_of_clocks(e: Evidence, uncertain_ms: float) -> str:
    """Return what depends on the clocks of several hosts: times of one request are of one clock."""
    if e.arrivals is not None:
        return (
            f"Latencies from the schedule may be off by up to {uncertain_ms:.2f} ms; those from the send are not "
            "affected."
        )
    return (
        f"Latencies are not affected. The window of requests/min begins and ends up to {uncertain_ms:.2f} ms earlier "
        "or later on each host."
    )


def _failures_so_far(s: SoFar) -> Finding:
    limit = f"at most {percent(FAILED_SHARE_LIMIT)}"
    if not s.ended:
        return Finding(Status.NOT_CHECKED, None, limit)
    status = Status.INVALID if s.failed > FAILED_SHARE_LIMIT * s.ended else Status.WARN
    return Finding(status if s.failed else Status.OK, f"{s.failed} of {s.ended}", limit)


@check(
    id="failures",
    title="failures",
    limit=f"at most {percent(FAILED_SHARE_LIMIT)} of the measured requests",
    live=_failures_so_far,
)
def failures(e: Evidence) -> Finding:
    """Check how many requests failed."""
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
        effect = f"If the engine was not warm after that, {main_figure(e)} reads low, {NOT_KNOWN}."
        return Finding(Status.WARN, f"{cold} in the warm-up", "0", "See the records of the warm-up.", effect)
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
    effect = (
        f"The figures are of the {counted(len(e.ok), 'request')} that were answered; how long the others would have "
        "taken is not known."
        if e.ok
        else "No request was answered: there is no figure."
    )
    return Finding(status, value, f"at most {percent(FAILED_SHARE_LIMIT)}", advice, effect)


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
    limit=f"at least {ENOUGH_REQUESTS} complete answers, of a sweep in the step with the highest throughput",
)
def sample_size(e: Evidence) -> Finding:
    """Check whether there are enough answers for the headline; the intervals of other steps account for few."""
    if not e.ok:
        return _no_answers(e)
    best = _best_step(e)
    n = len(e.ok) if best is None else _answers(e, best)
    value, limit = counted(n, "complete answer"), f"at least {ENOUGH_REQUESTS}"
    if best is not None:
        value += f" at {counted(best.concurrency, 'user')}, where throughput was highest"
    if n >= ENOUGH_REQUESTS:
        return Finding(Status.OK, value, limit)
    advice = "More --requests, or a longer --run-time." if best is None else "A longer --step-time."
    return Finding(Status.WARN, value, limit, advice, f"The interval of {main_figure(e)} is rough, and {_MISSING}.")


def _no_answers(e: Evidence) -> Finding:
    advice = "See the failures, and the server's log."
    if e.ended == "run-time" and not e.measured:
        advice = "No measured request ended before --run-time was over, which includes the warm-up: make it longer."
    limit = f"at least {ENOUGH_REQUESTS}"
    return Finding(Status.INCONCLUSIVE, "0 complete answers", limit, advice, "There is no figure.")


_MISSING = "p90, p95 and p99 are missing"
"""They need more answers than :data:`ENOUGH_REQUESTS`."""


def _best_step(e: Evidence) -> StepFacts | None:
    """Return the step with the most answers over time, of the steady ones if there are any; None without steps."""
    known = [step for step in e.steps if step.window_ns is not None]
    steady = [step for step in known if step.unsteady is None]
    return max(steady or known, key=lambda step: _answers_over_time(e, step), default=None)


def _answers_over_time(e: Evidence, step: StepFacts) -> float:
    assert step.window_ns is not None
    start, end = step.window_ns
    return _answers(e, step) / (end - start)


def _answers(e: Evidence, step: StepFacts) -> int:
    """Return how many complete answers were sent in a step's window."""
    assert step.window_ns is not None
    start, end = step.window_ns
    sent = e.ok.where_known("sent_ns").ints("sent_ns")
    return int(((start <= sent) & (sent < end)).sum())

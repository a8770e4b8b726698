"""Whether the numbers of a run may be believed: checks that are always on, each with its value, limit and advice."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from loadgen.clock import MS
from loadgen.measure import metrics
from loadgen.measure.envelope import Envelope, StreamLoad, described, is_inside, streams_text
from loadgen.measure.load import peak_in_flight
from loadgen.measure.statistics import percentile
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord

FAILED_SHARE_LIMIT = 0.05
"""Above it the mean over those that succeeded describes the survivors, not the engine."""

LOOP_LAG_LIMIT_MS = 5.0
"""p99 of the loop's lateness. Half of a 10 ms inter-token time: later, and tokens are read two at a time."""

CPU_SHARE_LIMIT = 0.8
"""Of one core, which is all that one process can use: beyond it queues in the client grow fast, and with them what is
known of arrivals only as an interval."""

LAG_SHARE_LIMIT = 0.1
"""Lateness as a share of the median round trip, above which times taken in user space are the client's, not the
server's. Times taken by the kernel do not depend on it."""

UNCERTAINTY_LIMIT = 0.01
"""Mean width of what is not known of first-token and end times, as a share of them: the resolution of the figures."""

SHARED_READS_LIMIT = 0.05
"""Share of chunks that were read together with a later one, whose gap then reads 0."""

ENOUGH_REQUESTS = 30
"""Fewest complete answers for an interval of a mean: below, the bootstrap's coverage falls visibly short of 95 %."""

CHARACTERS_PER_TOKEN = (0.5, 20.0)
"""Means outside it are no tokenizer's: English has about 4, Chinese with byte fallback about 1."""

AT_OWN_LIMIT = 0.9
"""An answer that ends by ``length`` below this share of --max-tokens was cut by a limit of the server's."""


class Status(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    WARN = "warn"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    NOT_CHECKED = "not checked"


class Verdict(StrEnum):
    """What the run is worth."""

    VALID = "VALID"
    WARN = "WARN"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_status(self) -> int:
        """Exit status of the command: 0 to be used, 3 invalid, 4 inconclusive."""
        return {Verdict.INVALID: 3, Verdict.INCONCLUSIVE: 4}.get(self, 0)


@dataclass(frozen=True, slots=True)
class Check:
    """A finding: what was looked at, what it was, what it may be, and what to do."""

    name: str
    status: Status
    value: str | None = None
    limit: str | None = None
    advice: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What the checks look at."""

    records: Sequence[RequestRecord]
    """All records, those of the warm-up included."""
    started: int | None
    """Requests that the instrument says it started; None if it did not live to say."""
    planned: int | None
    """Measured requests that were to be made; None if the run was bounded by time."""
    ended: str | None
    """``completed``, ``run-time`` or ``interrupted``; None if the run broke off."""
    users: int
    users_changed: bool
    max_tokens: int
    loop_lag_p99_ms: float | None
    """Of the worst process, as the next two."""
    cpu_share: float | None = None
    """CPU time over wall time."""
    gc_longest_ms: float | None = None
    load: StreamLoad | None = None
    """None where it is not of the kind that is calibrated."""
    calibration: Envelope | None = None
    no_calibration: str | None = None
    """Why there is none."""

    @cached_property
    def measured(self) -> list[RequestRecord]:
        """Records of the measured phase."""
        return [r for r in self.records if r.phase is Phase.MEASURE]

    @cached_property
    def ok(self) -> list[RequestRecord]:
        """Complete answers of the measured phase."""
        return [r for r in self.measured if r.outcome is Outcome.OK]


def judge(evidence: Evidence) -> tuple[Verdict, list[Check]]:
    """Run all checks; the worst of them is the verdict."""
    checks = [check(evidence) for check in _CHECKS]
    found = {check.status for check in checks}
    if Status.INVALID in found:
        return Verdict.INVALID, checks
    if Status.INCONCLUSIVE in found:
        return Verdict.INCONCLUSIVE, checks
    return (Verdict.WARN if Status.WARN in found else Verdict.VALID), checks


def _run_complete(e: Evidence) -> Check:
    name = "run complete"
    done = len(e.measured)
    if e.ended is None:
        text = f"cut short: {done} requests recorded, the run's end is missing"
        return Check(name, Status.INCONCLUSIVE, text, "an end", "Repeat it; the figures are of what was finished.")
    if e.ended == "interrupted":
        of = f" of {e.planned}" if e.planned is not None else ""
        return Check(name, Status.INCONCLUSIVE, f"interrupted after {done}{of} requests", "an end", "Let it end.")
    if e.ended == "completed" and e.planned is not None and done < e.planned:
        return Check(name, Status.INCONCLUSIVE, f"stopped after {done} of {e.planned} requests", "all", "Let it end.")
    return Check(name, Status.OK, f"{done} requests, ended by {'--run-time' if e.ended == 'run-time' else 'itself'}")


def _conservation(e: Evidence) -> Check:
    name = "every request accounted for"
    if e.started is None:
        return Check(name, Status.NOT_CHECKED)
    value = f"{e.started} started, {len(e.records)} recorded"
    distinct = len({r.request_id for r in e.records})
    if e.started == len(e.records) == distinct:
        return Check(name, Status.OK, value, "equal")
    return Check(name, Status.INVALID, value, "equal", "Records are missing or doubled: see the log, and report a bug.")


def _failures(e: Evidence) -> Check:
    name = "failures"
    # What an interruption aborted says nothing of the server, and makes the run inconclusive by itself.
    no_fault = {Outcome.OK, Outcome.ABORTED} if e.ended == "interrupted" else {Outcome.OK}
    failed = Counter(r.outcome for r in e.measured if r.outcome not in no_fault)
    if not e.measured:
        return Check(name, Status.NOT_CHECKED)
    total = sum(failed.values())
    cold = sum(r.phase is Phase.WARMUP and r.outcome is not Outcome.OK for r in e.records)
    if not total and cold:
        return Check(name, Status.WARN, f"{cold} in the warm-up", "0", "Was the engine warm? See the records.")
    if not total:
        return Check(name, Status.OK, "0", "0")
    value = f"{total} of {len(e.measured)}: " + ", ".join(f"{n} {outcome}" for outcome, n in failed.most_common())
    status = Status.INVALID if total > FAILED_SHARE_LIMIT * len(e.measured) else Status.WARN
    return Check(name, status, value, f"at most {FAILED_SHARE_LIMIT:.0%}", "See the errors below and the server's log.")


def _client_lag(e: Evidence) -> Check:
    name = "client lag"
    if e.loop_lag_p99_ms is None:
        return Check(name, Status.NOT_CHECKED)
    delays = [r.read_delay_ns / MS for r in e.ok if r.read_delay_ns is not None]
    value = f"loop p99 {e.loop_lag_p99_ms:.2f} ms"
    if delays:
        value += f", kernel to user p50 {percentile(delays, 0.5):.2f} ms"
    limit = f"{LOOP_LAG_LIMIT_MS:g} ms"
    if e.loop_lag_p99_ms <= LOOP_LAG_LIMIT_MS:
        return Check(name, Status.OK, value, limit)
    advice = (
        "This machine was busy, or code in the locustfile kept others from running: fewer users here, fewer programs "
        "beside it, or the engine on another machine."
    )
    if all(r.client == "openai" for r in e.ok):
        advice = "The openai SDK keeps the loop busy: that is what it costs, and it is in the figures."
    trips = [trip for r in e.ok if r.stamp == "user" and r.client == "own" and (trip := metrics.e2e_ms(r)) is not None]
    distorted = bool(trips) and e.loop_lag_p99_ms > LAG_SHARE_LIMIT * percentile(trips, 0.5)
    return Check(name, Status.INVALID if distorted else Status.WARN, value, limit, advice)


def _client_load(e: Evidence) -> Check:
    name = "client load"
    if e.cpu_share is None:
        return Check(name, Status.NOT_CHECKED)
    pause = e.gc_longest_ms or 0.0
    value = f"CPU {e.cpu_share:.0%} of a core" + (f", garbage collection up to {pause:.1f} ms" if pause else "")
    limit = f"{CPU_SHARE_LIMIT:.0%}, {LOOP_LAG_LIMIT_MS:g} ms"
    if e.cpu_share <= CPU_SHARE_LIMIT and pause <= LOOP_LAG_LIMIT_MS:
        return Check(name, Status.OK, value, limit)
    return Check(
        name, Status.WARN, value, limit, "One process is near its limit here: a smaller --itl-sample, or fewer users."
    )


def _calibrated(e: Evidence) -> Check:
    name = "inside the calibrated envelope"
    if e.load is None:
        return Check(name, Status.NOT_CHECKED, advice="Calibrated are streams of the own client without TLS.")
    value = f"{streams_text(e.load.streams)} at {e.load.tokens_per_second:.0f} tokens/s each"
    if e.calibration is None:
        why = e.no_calibration or "this machine was not calibrated"
        advice = "Run `loadgen calibrate` once on this machine."
        return Check(name, Status.NOT_CHECKED, value, f"unknown: {why}", advice)
    limit = described(e.calibration.held)
    if is_inside(e.load, e.calibration.held):
        return Check(name, Status.OK, value, limit)
    if e.load.itl_share > 0 and is_inside(replace(e.load, itl_share=0.0), e.calibration.held):
        value += f", {e.load.itl_share:.0%} of them read token by token"
        return Check(name, Status.WARN, value, limit, "So many were not measured to be exact: --itl-sample auto.")
    advice = "Errors were not measured to stay below 1 ms or 1 % there: fewer --users, or a faster machine."
    return Check(name, Status.WARN, value, limit, advice)


def _time_resolution(e: Evidence) -> Check:
    name = "times known exactly"
    shares = [share for r in e.ok for share in _uncertain_shares(r)]
    if not shares:
        return Check(name, Status.NOT_CHECKED)
    mean = sum(shares) / len(shares)
    shared, chunks = metrics.shared_reads(e.ok)
    value = f"uncertain by {mean:.2%} on average, {shared} of {chunks} chunks read together"
    limit = f"{UNCERTAINTY_LIMIT:.0%}, {SHARED_READS_LIMIT:.0%}"
    if mean <= UNCERTAINTY_LIMIT and shared <= SHARED_READS_LIMIT * chunks:
        return Check(name, Status.OK, value, limit)
    advice = "The client read late, or a proxy sent tokens in bunches."
    if shared <= SHARED_READS_LIMIT * chunks and any(r.lazy for r in e.ok):
        advice = (
            "Of streams drained lazily the last token is known to a sweep: a larger --itl-sample reads more of them."
        )
    return Check(name, Status.WARN, value, limit, advice)


def _uncertain_shares(r: RequestRecord) -> list[float]:
    """Return width over time for the first token, the time from it to the last one, and the end of one answer."""
    tpot = metrics.tpot_ms(r)
    decoding = None if tpot is None or r.output_tokens is None else tpot * r.output_tokens
    pairs = (
        (r.first_token_interval_ns, metrics.ttft_ms(r)),
        (r.last_token_interval_ns, decoding),
        (r.end_interval_ns, metrics.e2e_ms(r)),
    )
    return [width / MS / time for width, time in pairs if width is not None and time]


def _token_counts(e: Evidence) -> Check:
    name = "token counts"
    if not e.ok:
        return Check(name, Status.NOT_CHECKED)
    counted = [r for r in e.ok if r.output_tokens is not None]
    if not counted:
        advice = "The server counts no tokens: name its --tokenizer, or stream."
        return Check(name, Status.INVALID, f"none of {len(e.ok)} answers", "all", advice)
    by = Counter(r.counted_by for r in counted)
    value = ", ".join(f"{n} by {who}" for who, n in by.most_common())
    problem = _token_problem(e.ok, counted)
    if problem:
        return Check(name, Status.WARN, f"{value}; {problem}", "plausible", "Compare with the engine's own counters.")
    if CountedBy.CHUNKS in by:
        advice = "Chunks are a lower bound of the tokens: name the model's --tokenizer."
        return Check(name, Status.WARN, value, "usage or tokenizer", advice)
    return Check(name, Status.OK, value, "plausible")


def _token_problem(ok: Sequence[RequestRecord], counted: Sequence[RequestRecord]) -> str | None:
    """Return what is implausible about the counts, if anything."""
    if len(counted) < len(ok):
        return f"{len(ok) - len(counted)} answers without a count"
    fewer = sum((r.chunks or 0) > (r.output_tokens or 0) for r in counted)
    if fewer:
        return f"{fewer} answers with more chunks than tokens"
    negative = sum((metrics.e2e_ms(r) or 0) < 0 for r in ok)
    if negative:
        return f"{negative} answers that ended before they were asked for"
    silent = sum(bool(r.output_tokens) and r.output_characters == 0 for r in counted)
    if silent:
        return f"{silent} answers with tokens and no text"
    read = [r for r in counted if r.output_characters is not None]
    tokens = sum(r.output_tokens or 0 for r in read)
    if not tokens:
        return None
    per_token = sum(r.output_characters or 0 for r in read) / tokens
    low, high = CHARACTERS_PER_TOKEN
    return None if low <= per_token <= high else f"{per_token:.1f} characters per token"


def _output_lengths(e: Evidence) -> Check:
    name = "output lengths"
    if not e.ok:
        return Check(name, Status.NOT_CHECKED)
    reasons = Counter(r.finish_reason or "none given" for r in e.ok)
    value = ", ".join(f"{reason} {n / len(e.ok):.0%}" for reason, n in reasons.most_common())
    too_long = sum((r.output_tokens or 0) > e.max_tokens for r in e.ok)
    limit = f"at most {e.max_tokens} tokens"
    if too_long:
        advice = "The server does not keep to --max-tokens; runs with another limit will not compare."
        return Check(name, Status.WARN, f"{value}; {too_long} answers longer", limit, advice)
    short = sum(
        r.finish_reason == "length" and r.output_tokens is not None and r.output_tokens < AT_OWN_LIMIT * e.max_tokens
        for r in e.ok
    )
    if short:
        advice = "The server cut answers at a limit of its own: raise it, or lower --max-tokens."
        return Check(name, Status.WARN, f"{value}; {short} cut below --max-tokens", limit, advice)
    return Check(name, Status.OK, value, limit)


def _concurrency(e: Evidence) -> Check:
    name = "concurrency as asked"
    if e.users_changed:
        advice = "Start a new run instead of changing the users of one."
        return Check(name, Status.WARN, "users were changed during the run", str(e.users), advice)
    peak = peak_in_flight(e.measured)
    if peak == 0:
        return Check(name, Status.NOT_CHECKED)
    value = f"{peak} in flight at most"
    if peak == e.users:
        return Check(name, Status.OK, value, str(e.users))
    advice = "The users were never all waiting at once: more --requests, or a smaller --users."
    return Check(name, Status.WARN, value, str(e.users), advice)


def _sample_size(e: Evidence) -> Check:
    name = "enough samples"
    n = len(e.ok)
    value, limit = f"{n} complete answers", f"at least {ENOUGH_REQUESTS}"
    if n == 0:
        timed = e.ended == "run-time" and not e.measured
        advice = "--run-time includes the warm-up, which took it all." if timed else "There is nothing to measure by."
        return Check(name, Status.INCONCLUSIVE, value, limit, advice)
    if n < ENOUGH_REQUESTS:
        return Check(name, Status.WARN, value, limit, "The interval is rough: more --requests.")
    return Check(name, Status.OK, value, limit)


_CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    _run_complete,
    _conservation,
    _failures,
    _client_lag,
    _client_load,
    _calibrated,
    _time_resolution,
    _token_counts,
    _output_lengths,
    _concurrency,
    _sample_size,
)

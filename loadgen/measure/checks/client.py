"""Whether this client distorted what it measured."""

from dataclasses import replace

import numpy as np

from loadgen.clock import MS
from loadgen.measure.check import Finding, Scope, Status, check
from loadgen.measure.checks import littles_law
from loadgen.measure.checks.effect import NOT_KNOWN, main_figure, speed_reads_low, up_to
from loadgen.measure.columns import Floats
from loadgen.measure.envelope import described, is_inside
from loadgen.measure.evidence import Evidence, SoFar
from loadgen.measure.gaps import ChunkCounts
from loadgen.measure.latency import shortest_ms
from loadgen.measure.limits import (
    CPU_SHARE_LIMIT,
    LAG_SHARE_LIMIT,
    LOOP_LAG_LIMIT_MS,
    SHARED_READS_LIMIT,
    UNCERTAINTY_LIMIT,
)
from loadgen.measure.records import Records
from loadgen.measure.statistics import percentile
from loadgen.metrics import E2E, ICL, ITL, TPOT, TTFT, Metric
from loadgen.printable import counted, percent

_CAN_BE_CALIBRATED = Scope(
    "streams of the project's own client on this machine, without TLS",
    lambda e: e.load is not None,
    "Calibrated are streams of the project's own client on this machine, without TLS.",
)


def _lag_so_far(s: SoFar) -> Finding:
    limit = f"{LOOP_LAG_LIMIT_MS:g} ms"
    if s.loop_lag_p99_ms is None:
        return Finding(Status.NOT_CHECKED, None, limit)
    status = Status.OK if s.loop_lag_p99_ms <= LOOP_LAG_LIMIT_MS else Status.WARN
    return Finding(status, f"p99 of the loop lag {s.loop_lag_p99_ms:.2f} ms", limit)


@check(
    id="loop-lag",
    title="client lag",
    limit=f"p99 of the loop lag at most {LOOP_LAG_LIMIT_MS:g} ms",
    live=_lag_so_far,
)
def client_lag(e: Evidence) -> Finding:
    """Check how late this client's event loop was."""
    lag = e.loop_lag_p99_ms
    if lag is None:
        return Finding(Status.NOT_CHECKED)
    value, limit = f"p99 of the loop lag {lag:.2f} ms", f"{LOOP_LAG_LIMIT_MS:g} ms"
    if lag <= LOOP_LAG_LIMIT_MS:
        delays = e.ok.where_known("read_delay_ns").ints("read_delay_ns") / MS
        if len(delays):
            value += f", kernel to user p50 {percentile(delays, 0.5):.2f} ms"
        return Finding(Status.OK, value, limit)
    advice = (
        "What helps: fewer users in each process, fewer other programs on this machine, the engine on another machine, "
        "no long computations in the locustfile."
    )
    if e.ok and e.ok.equal("client", "openai").all():
        advice += " Without --client openai the kernel takes the times."
    # The shortest time that is measured: of a stream, that to its first token.
    times = shortest_ms(e.ok.where(e.ok.equal("stamp", "user") & e.ok.equal("client", "own")))
    is_distorted = bool(len(times)) and lag > LAG_SHARE_LIMIT * percentile(times, 0.5)
    status = Status.INVALID if is_distorted else Status.WARN
    return Finding(status, value, limit, advice, _effect_of_lag(e, lag))


def _effect_of_lag(e: Evidence, lag_ms: float) -> str:
    """Return what late reads do: they are in times that were taken in user space, and in no others."""
    late = e.ok.where(e.ok.equal("stamp", "user"))
    if late:
        of = "" if len(late) == len(e.ok) else f" of {len(late)} of {counted(len(e.ok), 'answer')}"
        text = f"{_latencies(late)}{of} may read up to {lag_ms:.1f} ms high (p99)"
        # An answer with the kernel's times is not late at all.
        share = speed_reads_low(e.ok, np.where(e.ok.equal("stamp", "user"), lag_ms, 0.0)) if e.is_one_user else None
        return f"{text}; {up_to(main_figure(e), share, 'low')}." if share is not None else f"{text}."
    if any(len(shares) and shares.mean() > UNCERTAINTY_LIMIT for shares in _uncertain_shares(e.ok).values()):
        text = "What was read late is known to an interval: 'times known exactly' has the effect."
        return text if e.is_one_user else f"{text} {_late_sends(e)}"
    if e.is_one_user:
        return f"{main_figure(e)}, TTFT and E2E are not affected: the kernel took their times."
    return f"TTFT and E2E are not affected: the kernel took their times. {_late_sends(e)}"


def _latencies(ok: Records) -> str:
    """Return which latencies from the send some answers have."""
    return "TTFT and E2E" if ok.known("first_token_ns").any() else E2E.label


def _late_sends(e: Evidence) -> str:
    """Return what it did that a busy client may have sent requests late."""
    if e.arrivals is not None:
        return "How late requests were sent is shown by 'sent on time'."
    return littles_law.reads_low(e) or f"{main_figure(e)} may read low, {NOT_KNOWN}."


def _load_so_far(s: SoFar) -> Finding:
    limit = f"{percent(CPU_SHARE_LIMIT)} of a core"
    if s.cpu_share is None:
        return Finding(Status.NOT_CHECKED, None, limit)
    return Finding(Status.OK if s.cpu_share <= CPU_SHARE_LIMIT else Status.WARN, percent(s.cpu_share), limit)


@check(
    id="cpu",
    title="client load",
    limit=f"{percent(CPU_SHARE_LIMIT)} of a core, no pause of the garbage collector above {LOOP_LAG_LIMIT_MS:g} ms",
    live=_load_so_far,
)
def client_load(e: Evidence) -> Finding:
    """Check how near this client was to its own limits."""
    if e.cpu_share is None:
        return Finding(Status.NOT_CHECKED)
    pause, value = e.gc_longest_ms or 0.0, f"CPU {percent(e.cpu_share)} of a core"
    if e.cpu_share > CPU_SHARE_LIMIT:
        advice = "What helps: a smaller --itl-sample, fewer users, or more --processes."
        return Finding(Status.WARN, value, percent(CPU_SHARE_LIMIT), advice, _effect_of_load(e))
    limit = f"{percent(CPU_SHARE_LIMIT)}, {LOOP_LAG_LIMIT_MS:g} ms"
    if pause <= LOOP_LAG_LIMIT_MS:
        value += f", garbage collection up to {pause:.1f} ms" if pause else ""
        return Finding(Status.OK, value, limit)
    value, limit = f"longest pause of Python's garbage collector {pause:.1f} ms", f"{LOOP_LAG_LIMIT_MS:g} ms"
    advice = "What helps: a less busy machine, fewer objects kept by the locustfile."
    return Finding(Status.WARN, value, limit, advice, _effect_of_pause(e, pause))


def _effect_of_load(e: Evidence) -> str:
    waiting = "Reads and sends may have waited in this client: 'client lag' shows how late reads were."
    return waiting if e.is_one_user else f"{waiting} {_late_sends(e)}"


def _effect_of_pause(e: Evidence, pause_ms: float) -> str:
    """Return what the longest standstill of all users of a process does."""
    late = e.ok.where(e.ok.equal("stamp", "user"))
    if late:
        return f"{_latencies(late)} of answers that were in flight then may read up to {pause_ms:.1f} ms high."
    return (
        "TTFT and E2E are not affected: the kernel took their times. A request that was due in that pause left up to "
        f"{pause_ms:.1f} ms late."
    )


@check(
    id="calibrated",
    title="inside the calibrated envelope",
    limit="a load that this machine was measured to hold",
    scope=_CAN_BE_CALIBRATED,
)
def calibrated(e: Evidence) -> Finding:
    """Check whether the load was one that this machine was measured to hold."""
    assert e.load is not None
    value = f"{counted(e.load.streams, 'stream')} at {e.load.tokens_per_second:.0f} tokens/s each"
    if e.calibration is None:
        why = e.no_calibration or "this machine was not calibrated"
        advice = "Run `loadgen calibrate` once on this machine."
        return Finding(Status.NOT_CHECKED, value, f"unknown: {why}", advice)
    limit = described(e.calibration.held)
    if is_inside(e.load, e.calibration.held):
        return Finding(Status.OK, value, limit)
    effect = (
        "It was not measured whether errors of TTFT, TPOT and E2E stay below 1 ms or 1 % at this load; they may be "
        f"larger, {NOT_KNOWN}."
    )
    if e.load.itl_share > 0 and is_inside(replace(e.load, itl_share=0.0), e.calibration.held):
        value += f", {percent(e.load.itl_share)} of them read token by token"
        return Finding(Status.WARN, value, limit, "--itl-sample auto reads fewer streams token by token.", effect)
    return Finding(Status.WARN, value, limit, "What helps: fewer --users, or a faster machine.", effect)


def _shared_reads_so_far(s: SoFar) -> Finding:
    limit = f"{percent(SHARED_READS_LIMIT)} of the chunks"
    if not s.chunks:
        return Finding(Status.NOT_CHECKED, None, limit)
    status = Status.OK if s.shared_chunks <= SHARED_READS_LIMIT * s.chunks else Status.WARN
    return Finding(status, f"{s.shared_chunks} of {s.chunks} chunks read together", limit)


@check(
    id="timing-resolution",
    title="times known exactly",
    limit=f"arrivals to {percent(UNCERTAINTY_LIMIT)}, {percent(SHARED_READS_LIMIT)} of the chunks read together",
    live=_shared_reads_so_far,
)
def time_resolution(e: Evidence) -> Finding:
    """Check how exactly arrivals are known."""
    by_figure = _uncertain_shares(e.ok)
    shares = np.concatenate(list(by_figure.values()))
    if not len(shares):
        return Finding(Status.NOT_CHECKED)
    mean, counts = float(shares.mean()), ChunkCounts.of(e.ok)
    together = f"{counts.shared} of {counts.chunks} chunks read together"
    if counts.shared > SHARED_READS_LIMIT * counts.chunks:
        limit = percent(SHARED_READS_LIMIT)
        advice = "They were read late here, which 'client lag' shows, or they arrived together."
        effect = f"Their gaps were not measured: there is no {ITL.label} and no {ICL.label}."
        if mean > UNCERTAINTY_LIMIT:
            effect += f" {_effect_of_intervals(e, by_figure)}"
        return Finding(Status.WARN, together, limit, advice, effect)
    value = f"uncertain by {percent(mean, 2)} on average"
    if mean <= UNCERTAINTY_LIMIT:
        limit = f"{percent(UNCERTAINTY_LIMIT)}, {percent(SHARED_READS_LIMIT)}"
        return Finding(Status.OK, f"{value}, {together}", limit)
    advice = "What was read together arrived together, or was read late here: see 'client lag'."
    if e.ok.yes("lazy").any():
        advice = "The last token of a lazily drained stream is known to an interval: a larger --itl-sample helps."
    return Finding(Status.WARN, value, percent(UNCERTAINTY_LIMIT), advice, _effect_of_intervals(e, by_figure))


def _effect_of_intervals(e: Evidence, by_figure: dict[Metric, Floats]) -> str:
    """Return by how much each figure may read high: a time is recorded as the latest at which its event can have been.

    Of TPOT both ends may be earlier, so that it may be off in both directions.
    """
    found = []
    for metric, shares in by_figure.items():
        if len(shares) and (mean := float(shares.mean())) > UNCERTAINTY_LIMIT:
            direction = "off" if metric is TPOT else "high"
            found.append(up_to(metric.label, mean, direction))
    known = e.ok.where_known("end_interval_ns")
    share = speed_reads_low(known, known.ints("end_interval_ns") / MS) if e.is_one_user and known else None
    if share is not None and share > UNCERTAINTY_LIMIT:
        found.append(up_to(main_figure(e), share, "low"))
    return f"On average, {'; '.join(found)}."


def _uncertain_shares(ok: Records) -> dict[Metric, Floats]:
    """Return the widths of intervals as shares of what ends in them: first token, later tokens, and whole answer."""
    tokens = ok.ints("output_tokens") - np.maximum(0, ok.ints("hidden_tokens"))
    named = (
        (TTFT, "first_token_interval_ns", ok.figure(TTFT)),
        (TPOT, "last_token_interval_ns", ok.figure(TPOT) * tokens),
        (E2E, "end_interval_ns", ok.figure(E2E)),
    )
    found = {}
    for metric, name, times in named:
        known = ok.known(name) & ~np.isnan(times) & (times != 0)
        found[metric] = ok.ints(name)[known] / MS / times[known]
    return found

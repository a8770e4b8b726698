"""Whether this client distorted what it measured."""

from dataclasses import replace

import numpy as np

from loadgen.clock import MS
from loadgen.measure.check import Finding, Scope, Status, check
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
from loadgen.metrics import E2E, TPOT, TTFT
from loadgen.printable import counted

_CAN_BE_CALIBRATED = Scope(
    "streams of the project's own client on this machine, without TLS",
    lambda e: e.load is not None,
    "Calibrated are streams of the own client on this machine, without TLS.",
)


def _lag_so_far(s: SoFar) -> Finding:
    limit = f"{LOOP_LAG_LIMIT_MS:g} ms"
    if s.loop_lag_p99_ms is None:
        return Finding(Status.NOT_CHECKED, None, limit)
    status = Status.OK if s.loop_lag_p99_ms <= LOOP_LAG_LIMIT_MS else Status.WARN
    return Finding(status, f"loop p99 {s.loop_lag_p99_ms:.2f} ms", limit)


@check(id="loop-lag", title="client lag", limit=f"loop p99 at most {LOOP_LAG_LIMIT_MS:g} ms", live=_lag_so_far)
def client_lag(e: Evidence) -> Finding:
    """Tell how late this client was."""
    if e.loop_lag_p99_ms is None:
        return Finding(Status.NOT_CHECKED)
    delays = e.ok.where_known("read_delay_ns").ints("read_delay_ns") / MS
    value = f"loop p99 {e.loop_lag_p99_ms:.2f} ms"
    if len(delays):
        value += f", kernel to user p50 {percentile(delays, 0.5):.2f} ms"
    limit = f"{LOOP_LAG_LIMIT_MS:g} ms"
    if e.loop_lag_p99_ms <= LOOP_LAG_LIMIT_MS:
        return Finding(Status.OK, value, limit)
    advice = (
        "Times taken in user space may be late by that. What helps: fewer users in each process, fewer other programs "
        "here, the engine on another machine, no long computations in the locustfile."
    )
    if e.ok and e.ok.equal("client", "openai").all():
        advice = "The openai SDK takes its times in user space, so this lag is in the figures."
    # The shortest time that is measured: of a stream, that to its first token.
    times = shortest_ms(e.ok.where(e.ok.equal("stamp", "user") & e.ok.equal("client", "own")))
    distorted = bool(len(times)) and e.loop_lag_p99_ms > LAG_SHARE_LIMIT * percentile(times, 0.5)
    return Finding(Status.INVALID if distorted else Status.WARN, value, limit, advice)


def _load_so_far(s: SoFar) -> Finding:
    limit = f"{CPU_SHARE_LIMIT:.0%} of a core"
    if s.cpu_share is None:
        return Finding(Status.NOT_CHECKED, None, limit)
    return Finding(Status.OK if s.cpu_share <= CPU_SHARE_LIMIT else Status.WARN, f"{s.cpu_share:.0%}", limit)


@check(
    id="cpu",
    title="client load",
    limit=f"{CPU_SHARE_LIMIT:.0%} of a core, no pause of the garbage collector above {LOOP_LAG_LIMIT_MS:g} ms",
    live=_load_so_far,
)
def client_load(e: Evidence) -> Finding:
    """Tell how near this client was to its own limits."""
    if e.cpu_share is None:
        return Finding(Status.NOT_CHECKED)
    pause = e.gc_longest_ms or 0.0
    value = f"CPU {e.cpu_share:.0%} of a core" + (f", garbage collection up to {pause:.1f} ms" if pause else "")
    limit = f"{CPU_SHARE_LIMIT:.0%}, {LOOP_LAG_LIMIT_MS:g} ms"
    if e.cpu_share <= CPU_SHARE_LIMIT and pause <= LOOP_LAG_LIMIT_MS:
        return Finding(Status.OK, value, limit)
    advice = "One process is near its limit here: a smaller --itl-sample, fewer users, or more --processes."
    if e.cpu_share <= CPU_SHARE_LIMIT:
        advice = (
            "Python's garbage collector stopped all users for that long. What helps: a less busy machine, fewer "
            "objects kept by the locustfile."
        )
    return Finding(Status.WARN, value, limit, advice)


@check(
    id="calibrated",
    title="inside the calibrated envelope",
    limit="a load that this machine was measured to hold",
    scope=_CAN_BE_CALIBRATED,
)
def calibrated(e: Evidence) -> Finding:
    """Tell whether the load was one that this machine was measured to hold."""
    assert e.load is not None
    value = f"{counted(e.load.streams, 'stream')} at {e.load.tokens_per_second:.0f} tokens/s each"
    if e.calibration is None:
        why = e.no_calibration or "this machine was not calibrated"
        advice = "Run `loadgen calibrate` once on this machine."
        return Finding(Status.NOT_CHECKED, value, f"unknown: {why}", advice)
    limit = described(e.calibration.held)
    if is_inside(e.load, e.calibration.held):
        return Finding(Status.OK, value, limit)
    if e.load.itl_share > 0 and is_inside(replace(e.load, itl_share=0.0), e.calibration.held):
        value += f", {e.load.itl_share:.0%} of them read token by token"
        return Finding(Status.WARN, value, limit, "So many were not measured to be exact: --itl-sample auto.")
    advice = "Errors were not measured to stay below 1 ms or 1 % there: fewer --users, or a faster machine."
    return Finding(Status.WARN, value, limit, advice)


def _shared_reads_so_far(s: SoFar) -> Finding:
    limit = f"{SHARED_READS_LIMIT:.0%} of the chunks"
    if not s.chunks:
        return Finding(Status.NOT_CHECKED, None, limit)
    status = Status.OK if s.shared_chunks <= SHARED_READS_LIMIT * s.chunks else Status.WARN
    return Finding(status, f"{s.shared_chunks} of {s.chunks} chunks read together", limit)


@check(
    id="timing-resolution",
    title="times known exactly",
    limit=f"arrivals to {UNCERTAINTY_LIMIT:.0%}, at most {SHARED_READS_LIMIT:.0%} of the chunks read together",
    live=_shared_reads_so_far,
)
def time_resolution(e: Evidence) -> Finding:
    """Tell how exactly arrivals are known."""
    shares = np.concatenate(_uncertain_shares(e.ok))
    if not len(shares):
        return Finding(Status.NOT_CHECKED)
    mean = float(shares.mean())
    counts = ChunkCounts.of(e.ok)
    shared, chunks = counts.shared, counts.chunks
    value = f"uncertain by {mean:.2%} on average, {shared} of {chunks} chunks read together"
    limit = f"{UNCERTAINTY_LIMIT:.0%}, {SHARED_READS_LIMIT:.0%}"
    if mean <= UNCERTAINTY_LIMIT and shared <= SHARED_READS_LIMIT * chunks:
        return Finding(Status.OK, value, limit)
    advice = "Chunks were read together: late by this client (see 'client lag'), or they came so from the network."
    if shared <= SHARED_READS_LIMIT * chunks and e.ok.yes("lazy").any():
        advice = "The last token of a lazily drained stream is known to an interval: a larger --itl-sample helps."
    return Finding(Status.WARN, value, limit, advice)


def _uncertain_shares(ok: Records) -> list[Floats]:
    """Return width over time for the first token, the time from it to the last one, and the end of answers."""
    tokens = ok.ints("output_tokens") - np.maximum(0, ok.ints("hidden_tokens"))
    pairs = (
        ("first_token_interval_ns", ok.figure(TTFT)),
        ("last_token_interval_ns", ok.figure(TPOT) * tokens),
        ("end_interval_ns", ok.figure(E2E)),
    )
    known = ((ok.ints(name), times, ok.known(name) & ~np.isnan(times) & (times != 0)) for name, times in pairs)
    return [widths[mask] / MS / times[mask] for widths, times, mask in known]

"""The verdict while a run goes on: what can be said already, by the limits of the final one."""

from collections.abc import Sequence

from loadgen.live.live import LiveStats
from loadgen.measure.evidence import Check, Status
from loadgen.measure.limits import CPU_SHARE_LIMIT, FAILED_SHARE_LIMIT, LOOP_LAG_LIMIT_MS, SHARED_READS_LIMIT
from loadgen.record import Outcome


def checks(live: LiveStats, lost: Sequence[str]) -> list[Check]:
    """Return what is known by now."""
    return [_failures(live), _workers(lost), _lag(live), _load(live), _shared_reads(live), _steadiness(live)]


def _failures(live: LiveStats) -> Check:
    failed = live.done - live.outcomes[Outcome.OK]
    limit = f"at most {FAILED_SHARE_LIMIT:.0%}"
    if not live.done:
        return Check("failures", Status.NOT_CHECKED, None, limit)
    state = Status.OK if not failed else Status.INVALID if failed > FAILED_SHARE_LIMIT * live.done else Status.WARN
    return Check("failures", state, f"{failed} of {live.done}", limit)


def _workers(lost: Sequence[str]) -> Check:
    return Check("workers", Status.INVALID if lost else Status.OK, "; ".join(lost) or "all there", "all there")


def _lag(live: LiveStats) -> Check:
    lags, limit = [lags.quantile(0.99) for lags in live.loop_lags.values() if lags.count], f"{LOOP_LAG_LIMIT_MS:g} ms"
    if not lags:
        return Check("client lag", Status.NOT_CHECKED, None, limit)
    status = Status.OK if max(lags) <= LOOP_LAG_LIMIT_MS else Status.WARN
    return Check("client lag", status, f"loop p99 {max(lags):.2f} ms", limit)


def _shared_reads(live: LiveStats) -> Check:
    name, limit = "times known exactly", f"{SHARED_READS_LIMIT:.0%} of the chunks"
    if not live.chunk_counts.chunks:
        return Check(name, Status.NOT_CHECKED, None, limit)
    shared, chunks = live.chunk_counts.shared, live.chunk_counts.chunks
    status = Status.OK if shared <= SHARED_READS_LIMIT * chunks else Status.WARN
    return Check(name, status, f"{shared} of {chunks} chunks read together", limit)


def _load(live: LiveStats) -> Check:
    shares = [worker["cpu_share"] for worker in live.workers() if worker["cpu_share"] is not None]
    limit = f"{CPU_SHARE_LIMIT:.0%} of a core"
    if not shares:
        return Check("client load", Status.NOT_CHECKED, None, limit)
    return Check(
        "client load", Status.OK if max(shares) <= CPU_SHARE_LIMIT else Status.WARN, f"{max(shares):.0%}", limit
    )


def _steadiness(live: LiveStats) -> Check:
    unsteady = [str(step["concurrency"]) for step in live.steps if step["steady"] is False]
    if not live.steps:
        return Check("steady", Status.NOT_CHECKED)
    value = f"not at {', '.join(unsteady)} users" if unsteady else "all steps"
    return Check("steady", Status.WARN if unsteady else Status.OK, value, "all steps")

"""Whether the engine had requests that are not part of this run."""

from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN, main_figure
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import EngineCounters
from loadgen.printable import counted
from loadgen.record import Outcome

_OTHERS = "They are not of this run: let the engine finish them, and measure it alone."


@check(id="foreign-load", title="no other load on the engine", limit="no request that is not ours")
def foreign_load(e: Evidence) -> Finding:
    """Check that the engine had no requests but those of this run."""
    if e.counters is None:
        return Finding(Status.NOT_CHECKED, advice="The engine exposes no counter for this.")
    before, after = e.counters
    busy = (before.running or 0) + (before.waiting or 0)
    if busy > 0:
        return Finding(Status.INVALID, f"{counted(round(busy), 'request')} before our first", "0", _OTHERS, _effect(e))
    # A request that we gave up may still occupy the engine.
    given_up = int((e.records.known("sent_ns") & ~e.records.equal("outcome", Outcome.OK)).sum())
    left = (after.running or 0) + (after.waiting or 0)
    if left > given_up:
        limit = f"0 to {given_up}" if given_up else "0"
        return Finding(Status.INVALID, f"{counted(round(left), 'request')} after our last", limit, _OTHERS, _effect(e))
    return _ended_requests(e, before, after)


def _effect(e: Evidence) -> str:
    return f"They shared the engine with this run: {main_figure(e)} may read low and latencies high, {NOT_KNOWN}."


def _ended_requests(e: Evidence, before: EngineCounters, after: EngineCounters) -> Finding:
    """Compare the engine's count of finished requests with ours."""
    if before.requests is None or after.requests is None:
        status = Status.NOT_CHECKED if before.running is None else Status.OK
        value = "idle before our first request and after our last" if status is Status.OK else None
        return Finding(status, value)
    theirs = after.requests - before.requests
    ended = int(e.records.equal("outcome", Outcome.OK).sum())
    sent = int(e.records.known("sent_ns").sum())
    value = f"{theirs:.0f} requests ended there, {ended} complete ones of ours"
    limit = f"{ended}" if ended == sent else f"{ended} to {sent}"
    if theirs > sent:
        advice = "The engine counted more requests than this run sent: measure it alone."
        return Finding(Status.INVALID, value, limit, advice, _effect(e))
    if theirs < ended:
        advice = (
            "Its /metrics do not count all our requests, so they cannot show those of others: they may be of one "
            "replica of several, or begin with a restart."
        )
        effect = f"Whether {main_figure(e)} reads low because of other requests cannot be told."
        return Finding(Status.WARN, value, limit, advice, effect)
    return Finding(Status.OK, value, limit)

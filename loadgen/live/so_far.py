"""The verdict while a run goes on: what can be said already, by the limits of the final one."""

from collections.abc import Sequence

from loadgen.live.live import Live
from loadgen.measure.evidence import Check, Status
from loadgen.measure.limits import CPU_SHARE_LIMIT, FAILED_SHARE_LIMIT
from loadgen.measure.verdict import Verdict, worst
from loadgen.record import Outcome


def checks(live: Live, lost: Sequence[str]) -> list[Check]:
    """Return what is known by now."""
    return [_failures(live), _workers(lost), _load(live), _steadiness(live)]


def status(found: Sequence[Check]) -> Verdict:
    """Return the verdict by these."""
    return worst(found)


def _failures(live: Live) -> Check:
    failed = live.done - live.outcomes[Outcome.OK]
    limit = f"at most {FAILED_SHARE_LIMIT:.0%}"
    if not live.done:
        return Check("failures", Status.NOT_CHECKED, None, limit)
    state = Status.OK if not failed else Status.INVALID if failed > FAILED_SHARE_LIMIT * live.done else Status.WARN
    return Check("failures", state, f"{failed} of {live.done}", limit)


def _workers(lost: Sequence[str]) -> Check:
    return Check("workers", Status.INVALID if lost else Status.OK, "; ".join(lost) or "all there", "all there")


def _load(live: Live) -> Check:
    shares = [worker["cpu_share"] for worker in live.workers() if worker["cpu_share"] is not None]
    limit = f"{CPU_SHARE_LIMIT:.0%} of a core"
    if not shares:
        return Check("client load", Status.NOT_CHECKED, None, limit)
    return Check(
        "client load", Status.OK if max(shares) <= CPU_SHARE_LIMIT else Status.WARN, f"{max(shares):.0%}", limit
    )


def _steadiness(live: Live) -> Check:
    unsteady = [str(step["concurrency"]) for step in live.steps if not step["steady"]]
    if not live.steps:
        return Check("steady", Status.NOT_CHECKED)
    value = f"not at {', '.join(unsteady)} users" if unsteady else "all steps"
    return Check("steady", Status.WARN if unsteady else Status.OK, value, "all steps")

"""Whether the numbers of a run may be believed: checks that are always on, each with its value, limit and advice."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from loadgen.exit_status import ExitStatus
from loadgen.measure.checks import (
    accounting,
    arrivals,
    client,
    foreign_load,
    littles_law,
    load,
    steady_state,
    streams,
    tokens,
    user_code,
)
from loadgen.measure.evidence import Check, Evidence, Status


class Verdict(StrEnum):
    """What the run is worth."""

    VALID = "VALID"
    WARN = "WARN"
    INVALID = "INVALID"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_status(self) -> ExitStatus:
        """Exit status of a run with this verdict."""
        found = {Verdict.INVALID: ExitStatus.INVALID, Verdict.INCONCLUSIVE: ExitStatus.INCONCLUSIVE}
        return found.get(self, ExitStatus.OK)


def judge(evidence: Evidence) -> tuple[Verdict, list[Check]]:
    """Run all checks; the worst of them is the verdict."""
    checks = [check(evidence) for check in _CHECKS]
    return worst(checks), checks


def worst(checks: Iterable[Check]) -> Verdict:
    """Return the verdict by these checks."""
    found = {check.status for check in checks}
    if Status.INVALID in found:
        return Verdict.INVALID
    if Status.INCONCLUSIVE in found:
        return Verdict.INCONCLUSIVE
    return Verdict.WARN if Status.WARN in found else Verdict.VALID


_CHECKS: tuple[Callable[[Evidence], Check], ...] = (
    accounting.run_complete,
    accounting.conservation,
    accounting.workers,
    accounting.failures,
    user_code.user_code,
    client.client_lag,
    client.client_load,
    client.calibrated,
    client.time_resolution,
    tokens.token_counts,
    tokens.engines_count,
    streams.streamed,
    streams.shown,
    tokens.prefix_cache,
    tokens.output_lengths,
    load.load_model,
    load.concurrency,
    littles_law.little,
    steady_state.steadiness,
    arrivals.arrivals,
    arrivals.send_lag,
    foreign_load.foreign_load,
    accounting.sample_size,
)

"""Whether the numbers of a run may be believed: checks that are always on, each with its value, limit and advice."""

from collections.abc import Iterable
from enum import StrEnum

from loadgen.exit_status import ExitStatus
from loadgen.measure.check import Check, CheckResult, Status
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
from loadgen.measure.evidence import Evidence, SoFar


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


def judge(evidence: Evidence) -> tuple[Verdict, list[CheckResult]]:
    """Run all checks; the worst of them is the verdict."""
    results = [check(evidence) for check in CHECKS]
    return _worst(results), results


def judge_so_far(so_far: SoFar) -> tuple[Verdict, list[CheckResult]]:
    """Run the checks that can be asked while a run goes on."""
    results = [check.so_far(so_far) for check in CHECKS if check.live is not None]
    return _worst(results), results


def _worst(checks: Iterable[CheckResult]) -> Verdict:
    found = {check.status for check in checks}
    if Status.INVALID in found:
        return Verdict.INVALID
    if Status.INCONCLUSIVE in found:
        return Verdict.INCONCLUSIVE
    return Verdict.WARN if Status.WARN in found else Verdict.VALID


CHECKS: tuple[Check, ...] = (
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
"""All checks, in the order in which reports show them."""

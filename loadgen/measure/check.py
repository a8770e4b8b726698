"""What a check of the verdict is: its id, its title, what it holds a run against, when it applies, and both its forms.

The final form looks at all evidence of a run that has ended. Some checks can also be asked while a run goes on: their
live form looks at counts so far, and holds them against the same limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from loadgen.measure.evidence import Evidence, SoFar
from loadgen.printable import counted


class Status(StrEnum):
    """Outcome of one check."""

    OK = "ok"
    WARN = "warn"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: the value, what it may be, what to do, and what the figures lose by it."""

    status: Status
    value: str | None = None
    limit: str | None = None
    advice: str | None = None
    effect: str | None = None
    """What an objection does to the figures: in the units of the headline as far as the run has measured it, else the
    plain statement that it is not known."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """The finding of one check, as it stands in ``summary.json``."""

    id: str = ""
    """Stable; scripts may rely on it. Empty in summaries of older versions."""
    name: str
    """The title of the check."""
    status: Status
    value: str | None = None
    """What was found; None where there was nothing to look at."""
    limit: str | None = None
    """What it was held against."""
    effect: str | None = None
    """What it does to the figures; None without an objection, and in older summaries."""
    advice: str | None = None
    """What to do about it."""

    @property
    def explanation(self) -> str:
        """The effect and the advice, in this order; empty where there are none."""
        return " ".join(filter(None, (self.effect, self.advice)))


OBJECTIONS = (Status.INVALID, Status.INCONCLUSIVE, Status.WARN)
"""Statuses of checks that were not passed, the gravest first."""


def objections(checks: Sequence[CheckResult]) -> list[CheckResult]:
    """Return the checks that were not passed, the gravest first."""
    return [check for status in OBJECTIONS for check in checks if check.status is status]


def described(checks: Sequence[CheckResult]) -> str:
    """Return how many checks were passed, and how many could not be made."""
    passed, not_checked = (sum(check.status is of for check in checks) for of in (Status.OK, Status.NOT_CHECKED))
    return f"{counted(passed, 'check')} passed, {not_checked} not checked"


@dataclass(frozen=True, slots=True)
class Scope:
    """The runs that a check applies to."""

    text: str
    covers: Callable[[Evidence], bool]
    otherwise: str | None = None
    """What a run outside the scope is told."""


EVERY_RUN = Scope("every run", lambda _: True)
OPEN_LOOP = Scope("open loops", lambda e: e.arrivals is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of the verdict; calling it gives its result."""

    id: str
    title: str
    limit: str
    """What a run is held against, in words, for readers of the documentation."""
    scope: Scope
    final: Callable[[Evidence], Finding]
    live: Callable[[SoFar], Finding] | None
    """None where nothing can be said before the end."""

    def __call__(self, evidence: Evidence) -> CheckResult:
        """Return what is found in a run that has ended."""
        if not self.scope.covers(evidence):
            return self._result(Finding(Status.NOT_CHECKED, advice=self.scope.otherwise))
        return self._result(self.final(evidence))

    def so_far(self, so_far: SoFar) -> CheckResult:
        """Return what is found in a run that goes on; only of a check with a live form."""
        assert self.live is not None
        return self._result(self.live(so_far))

    def _result(self, finding: Finding) -> CheckResult:
        return CheckResult(
            id=self.id,
            name=self.title,
            status=finding.status,
            value=finding.value,
            limit=finding.limit,
            effect=finding.effect,
            advice=finding.advice,
        )


def check(
    *,
    id: str,  # noqa: A002 as results have it
    title: str,
    limit: str,
    scope: Scope = EVERY_RUN,
    live: Callable[[SoFar], Finding] | None = None,
) -> Callable[[Callable[[Evidence], Finding]], Check]:
    """Declare a check; the function below is its final form."""

    def declared(final: Callable[[Evidence], Finding]) -> Check:
        return Check(id=id, title=title, limit=limit, scope=scope, final=final, live=live)

    return declared

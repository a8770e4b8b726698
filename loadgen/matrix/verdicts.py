"""Which runs of a cell count, and what their verdicts say of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadgen.matrix.document import Footnotes, Words
from loadgen.measure.check import OBJECTIONS
from loadgen.measure.verdict import Verdict
from loadgen.printable import counted
from loadgen.results.summary_schema import Summary

_WORST_FIRST = (Verdict.INVALID, Verdict.INCONCLUSIVE, Verdict.WARN, Verdict.VALID)
_USABLE = (Verdict.VALID, Verdict.WARN)


@dataclass(frozen=True, slots=True)
class Runs:
    """Repeats of one run."""

    counted: tuple[Summary, ...]
    """Those whose figures stand in the table: the VALID and WARN ones, or all where there is no such run."""
    left_out: tuple[Summary, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of those that count."""
        return _worst(self.counted)

    @property
    def usable(self) -> bool:
        """Whether their figures may be compared with others."""
        return self.verdict in _USABLE

    def marks(self, footnotes: Footnotes) -> tuple[Words, ...]:
        """Return what a figure of these runs has to say of itself."""
        found = []
        if self.verdict is not Verdict.VALID:
            found.append(Words(self.verdict, (footnotes.letter(_why(self.counted)),), self.verdict))
        if self.left_out:
            text = f"{counted(len(self.left_out), 'run')} left out"
            found.append(Words(text, (footnotes.letter(_why(self.left_out)),), _worst(self.left_out)))
        return tuple(found)


def runs_of(summaries: Sequence[Summary]) -> Runs | None:
    """Return the repeats of a run; None where there is none."""
    if not summaries:
        return None
    usable = tuple(s for s in summaries if _verdict(s) in _USABLE)
    unusable = tuple(s for s in summaries if _verdict(s) not in _USABLE)
    return Runs(usable, unusable) if usable else Runs(unusable, ())


def _worst(summaries: Iterable[Summary]) -> Verdict:
    found = {_verdict(s) for s in summaries}
    return next(verdict for verdict in _WORST_FIRST if verdict in found)


def _verdict(summary: Summary) -> Verdict:
    return summary.verdict.status


def _why(summaries: Sequence[Summary]) -> str:
    """Return which checks were not passed, the worst first."""
    checks = [check for s in summaries for check in s.verdict.checks]
    found = [
        f"{name} ({status.value})"
        for status in OBJECTIONS
        for name in dict.fromkeys(check.name for check in checks if check.status is status)
    ]
    return f"{_worst(summaries)}, checks not passed: {', '.join(found) or 'not told'}."

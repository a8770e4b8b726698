"""Rounds: all cases once, then all again, so that what the machine did at the time hits none of them alone."""

import sys
from collections.abc import Callable, Mapping

from benchmarks.figures import Case, Figures
from benchmarks.ours import RunError
from benchmarks.peers.environment import InstallError
from benchmarks.peers.measure import PeerError, ServerError

FAILURES = (RunError, InstallError, PeerError, ServerError, ChildProcessError)
"""What becomes of a run that says nothing; a line beneath the table, and the rest goes on."""

_BRIEF = 150


def run_rounds(measures: Mapping[str, Callable[[], Figures]], rounds: int) -> tuple[list[Case], list[str]]:
    """Measure each case in each round; return the cases and a line for each that failed."""
    cases = {name: Case(name) for name in measures}
    failures: list[str] = []
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            try:
                cases[name].rounds.append(measure())
            except FAILURES as error:
                print(error, file=sys.stderr, flush=True)
                failures.append(f"{name}, round {number}, failed: {_brief(str(error))}")
    return list(cases.values()), failures


def _brief(message: str) -> str:
    """Return the beginning and the end of a message, in one line: who failed, and what it said last."""
    words = " ".join(message.split())
    return words if len(words) <= 2 * _BRIEF else f"{words[:_BRIEF]} ... {words[-_BRIEF:]}"

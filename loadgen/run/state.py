"""The states of a run. A run goes through them once, in one direction."""

from enum import StrEnum
from typing import Literal

EndReason = Literal["completed", "run-time", "interrupted"]
"""Why a run ended: all planned requests were made; ``--run-time`` was over; somebody, or a fault, ended it early."""


class RunState(StrEnum):
    """What a run is doing; the values are what displays show."""

    PREPARED = "prepared"
    """Everything was checked and the files are open; no request has been sent."""
    WARMING_UP = "warming up"
    MEASURING = "measuring"
    """The load model plays."""
    DRAINING = "draining"
    """No request is handed out; those in flight end, and the last reports arrive."""
    ENDED = "ended"
    """Records are merged and reports are written."""


_NEXT: dict[RunState, frozenset[RunState]] = {
    RunState.PREPARED: frozenset({RunState.WARMING_UP, RunState.DRAINING}),
    RunState.WARMING_UP: frozenset({RunState.MEASURING, RunState.DRAINING}),
    RunState.MEASURING: frozenset({RunState.DRAINING}),
    RunState.DRAINING: frozenset({RunState.ENDED}),
    RunState.ENDED: frozenset(),
}


def can_follow(state: RunState, following: RunState) -> bool:
    """Whether a run may go from a state to another one."""
    return following in _NEXT[state]

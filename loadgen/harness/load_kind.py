"""What kind of load a locustfile's users make."""

from enum import StrEnum


class LoadKind(StrEnum):
    """How the load comes about."""

    CLOSED = "closed"
    """Always as many users, each waiting for an answer before the next question."""
    SWEEP = "sweep"
    """More users in each step; each waits for an answer before the next question."""
    OPEN = "open"
    """Requests at times of a schedule, whatever has become of those before."""

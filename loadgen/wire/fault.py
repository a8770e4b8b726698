"""Faults of the server or of the connection to it: how a request ends without a complete answer."""

from dataclasses import dataclass

from loadgen.record import Outcome


@dataclass(frozen=True, slots=True)
class Fault:
    """Why no complete response was received, as far as the wire can tell."""

    outcome: Outcome
    message: str


ABORTED = Fault(Outcome.ABORTED, "ended by us before the answer was complete")


class WireError(Exception):
    """A fault while a request was made: data for its record, never an error in our code."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(outcome, message)

    @classmethod
    def of(cls, fault: Fault) -> "WireError":
        """Return the exception for a fault."""
        return cls(fault.outcome, fault.message)

    @property
    def outcome(self) -> Outcome:
        """Kind of the fault."""
        return self.fault.outcome

    @property
    def message(self) -> str:
        """The fault in words."""
        return self.fault.message

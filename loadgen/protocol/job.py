"""One request to be made."""

from dataclasses import dataclass

from loadgen.clock import Ns
from loadgen.protocol.api import Ask
from loadgen.record import Phase
from loadgen.wire.trace import traceparent


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked, and what the record will say about its place in the run."""

    request_id: str
    ask: Ask
    phase: Phase
    prompt_row: int
    round: int = 0
    not_before: Ns | None = None
    """When it may be sent at the earliest, its connection opened just before that; None: at once."""
    scheduled: Ns | None = None
    """When the schedule of an open loop wants it sent."""
    worker: int = 0
    """The process that makes it."""
    step: int | None = None
    """The step of the load."""
    lazy: bool = False
    """Whether the stream may be drained in large reads after its first token."""

    @property
    def headers(self) -> dict[str, str]:
        """By which a server's logs and traces name it."""
        return {"x-request-id": self.request_id, "traceparent": traceparent(self.request_id)}

"""The transcript: what crossed the socket for one request, with times. Kept while it happens, parsed afterwards."""

from dataclasses import dataclass, field
from typing import Literal

from loadgen.clock import Ns
from loadgen.record import Outcome
from loadgen.wire.connection import Read
from loadgen.wire.http1 import Response


@dataclass(slots=True)
class Transcript:
    """One request and all that came back, in order."""

    connect: Ns | None = None
    connected: Ns | None = None
    sent: Ns | None = None
    connection: Literal["new", "reused", "replaced"] | None = None
    reads: list[Read] = field(default_factory=list)
    """The reads that gave bytes."""
    response: Response = field(default_factory=Response)
    end: Ns | None = None
    """End of the response, or of the attempt."""
    end_width: Ns | None = None
    """Width of the interval in which the response ended, 0 where its end is known exactly; None if it did not."""
    outcome: Outcome = Outcome.ABORTED
    """As far as the wire can tell; OK is to be confirmed by the answer's content."""
    error: str | None = "ended by us before the answer was complete"
    clock_stepped: bool = False

    @property
    def stamped(self) -> bool:
        """Whether the kernel's times of all reads can be used."""
        return bool(self.reads) and all(r.stamped for r in self.reads) and not self.clock_stepped

    def end_with_read(self) -> None:
        """Note that the newest byte read is the last one of a complete message."""
        self.end = self.times()[-1]
        self.end_width = Ns(0) if self.stamped else self.widths()[-1]

    def end_with_close(self, read: Read) -> None:
        """Note that the connection ended: it has no stamp, so its time is that of the read that found out."""
        known = [at for at in (self.sent, *self.times()[-1:], read.empty_at) if at is not None]
        self.end = read.read_at
        self.end_width = Ns(max(0, read.read_at - max(known)))

    def times(self) -> list[Ns]:
        """Return the arrival time of each read, all from the same source."""
        return [r.at for r in self.reads] if self.stamped else [r.read_at for r in self.reads]

    def widths(self) -> list[Ns]:
        """Return how wide the interval is in which bytes before the last one of each read arrived.

        Its lower end is the later of the time of the read before and the last poll that found the socket empty.
        """
        times = self.times()
        result: list[Ns] = []
        before = self.sent if self.sent is not None else Ns(0)
        for at, read in zip(times, self.reads, strict=True):
            lower = max(before, read.empty_at if read.empty_at is not None else before)
            result.append(Ns(max(0, at - lower)))
            before = at
        return result

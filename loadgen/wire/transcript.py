"""The transcript: what crossed the socket for one request, with times. Kept while it happens, parsed afterwards."""

import struct
from dataclasses import dataclass, field
from typing import Literal

from loadgen.clock import SECOND, Ns
from loadgen.record import Outcome
from loadgen.wire.http1 import Response

_STAMP = struct.Struct("@qq")
"""``struct timespec`` of a receive stamp: seconds and nanoseconds of CLOCK_REALTIME."""

SWEPT = b"swept"
"""In place of a stamp: these bytes were seen to be there by a sweep, before they were read."""


@dataclass(slots=True)
class Transcript:
    """One request and all that came back, in order.

    The reads are kept as columns: a read costs four appends and nothing else.
    """

    connect: Ns | None = None
    connected: Ns | None = None
    sent: Ns | None = None
    connection: Literal["new", "reused", "replaced"] | None = None
    data: list[bytes] = field(default_factory=list)
    """The bytes of each read."""
    control: list[bytes] = field(default_factory=list)
    """The kernel's stamp of each read, empty where there is none."""
    read_at: list[Ns] = field(default_factory=list)
    """When user space had it."""
    empty_at: list[Ns | None] = field(default_factory=list)
    """The last time before it at which the socket was found empty, as far as that is known."""
    response: Response = field(default_factory=Response)
    lazy: bool = False
    """Whether it was drained in large reads after its first token."""
    inexact: set[int] = field(default_factory=set)
    """Indexes of reads whose stamp may be later than the arrival of their newest byte."""
    end: Ns | None = None
    """End of the response, or of the attempt."""
    end_width: Ns | None = None
    """Width of the interval in which the response ended, 0 where its end is known exactly; None if it did not."""
    outcome: Outcome = Outcome.ABORTED
    """As far as the wire can tell; OK is to be confirmed by the answer's content."""
    error: str | None = "ended by us before the answer was complete"
    offset: int | None = None
    """CLOCK_REALTIME minus the monotonic clock while it was received; None if the clock was set meanwhile."""

    def arrivals(self) -> "Arrivals":
        """Return the times of the reads; to be called once, when the response is over."""
        stamped = bool(self.control) and all(self.control) and self.offset is not None
        at: list[Ns] = []
        widths: list[Ns] = []
        exact: list[bool] = []
        before = self.sent or Ns(0)
        for control, read_at, empty_at in zip(self.control, self.read_at, self.empty_at, strict=True):
            kernel = stamped and control is not SWEPT
            time = Ns(min(_nanoseconds(control) - (self.offset or 0), read_at)) if kernel else read_at
            at.append(time)
            widths.append(Ns(max(0, time - max(before, empty_at or before))))
            exact.append(kernel and len(exact) not in self.inexact)
            before = time
        delays = [r - t for r, t, kernel in zip(self.read_at, at, exact, strict=True) if kernel]
        return Arrivals(at, widths, exact, stamped, Ns(max(delays)) if delays else None)

    def settle_end(self, arrivals: "Arrivals", gave_up_at: Ns) -> None:
        """Set the end: of a complete message the arrival of its last byte, otherwise when we gave it up."""
        if self.end is not None:  # with the connection's end
            return
        if self.outcome is Outcome.OK:
            self.end_with_last_byte(arrivals)
        else:
            self.end = gave_up_at

    def end_with_last_byte(self, arrivals: "Arrivals") -> None:
        """Set the end to the arrival of the last byte."""
        self.end = arrivals.at[-1]
        self.end_width = Ns(0) if arrivals.exact[-1] else arrivals.widths[-1]

    def begin_again(self) -> None:
        """Forget an attempt that brought no byte."""
        self.sent = self.end = self.end_width = self.offset = None
        self.response = Response()


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the bytes of each read arrived, all times from one source."""

    at: list[Ns]
    """Arrival of each read's newest byte."""
    widths: list[Ns]
    """Width of the interval in which the read's other bytes arrived: its lower end is the later of the time of the read
    before and the last poll that found the socket empty."""
    exact: list[bool]
    """Whether the newest byte's time is the kernel's."""
    stamped: bool
    """Whether the kernel's times could be used."""
    longest_delay: Ns | None
    """Longest time from a stamp to its read in user space; None without stamps."""


def _nanoseconds(control: bytes) -> int:
    whole, part = _STAMP.unpack_from(control)
    return int(whole) * SECOND + int(part)

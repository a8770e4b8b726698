"""The transcript: what crossed the socket for one request, with times. Kept while it happens, parsed afterwards."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND, Ns
from loadgen.record import Outcome
from loadgen.wire.http1 import Response

_STAMP_BYTES = 16
"""``struct timespec`` of a receive stamp: seconds and nanoseconds of CLOCK_REALTIME, 64 bits each."""

_NO_STAMP = bytes(_STAMP_BYTES)

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
        read_at = np.array(self.read_at, dtype=np.int64)
        at = read_at
        exact = np.zeros(len(at), dtype=bool)
        if stamped:
            swept = np.array([control is SWEPT for control in self.control])
            stamps = b"".join(_NO_STAMP if control is SWEPT else control[:_STAMP_BYTES] for control in self.control)
            seconds, nanoseconds = np.frombuffer(stamps, dtype=np.int64).reshape(-1, 2).T
            kernel = np.minimum(seconds * SECOND + nanoseconds - (self.offset or 0), read_at)
            at = np.where(swept, read_at, kernel)
            exact = ~swept
            exact[list(self.inexact)] = False
        lower = np.array([0 if empty_at is None else empty_at for empty_at in self.empty_at], dtype=np.int64)
        before = np.concatenate(([self.sent or 0], at[:-1])) if len(at) else at
        widths = np.maximum(0, at - np.maximum(before, lower))
        delays = (read_at - at)[exact]
        return Arrivals(at, widths, exact, stamped, Ns(int(delays.max())) if len(delays) else None)

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
        self.end = Ns(int(arrivals.at[-1]))
        self.end_width = Ns(0 if arrivals.exact[-1] else int(arrivals.widths[-1]))

    def begin_again(self) -> None:
        """Forget an attempt that brought no byte."""
        self.sent = self.end = self.end_width = self.offset = None
        self.response = Response()


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When the bytes of each read arrived, all times from one source."""

    at: NDArray[np.int64]
    """Arrival of each read's newest byte, ns."""
    widths: NDArray[np.int64]
    """Width of the interval in which the read's other bytes arrived: its lower end is the later of the time of the read
    before and the last poll that found the socket empty."""
    exact: NDArray[np.bool_]
    """Whether the newest byte's time is the kernel's."""
    stamped: bool
    """Whether the kernel's times could be used."""
    longest_delay: Ns | None
    """Longest time from a stamp to its read in user space; None without stamps."""

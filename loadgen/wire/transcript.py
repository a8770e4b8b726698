"""The transcript: what crossed the socket for one request, with times. Kept while it happens, parsed afterwards."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import sub
from typing import Literal, cast

from loadgen.clock import SECOND, Ns
from loadgen.wire.fault import ABORTED, Fault
from loadgen.wire.http1 import Response

_STAMP_BYTES = 16
"""``struct timespec`` of a receive stamp: seconds and nanoseconds of CLOCK_REALTIME, 64 bits each."""

SWEPT = bytes(_STAMP_BYTES)
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
    silent: Ns | None = None
    """A time shortly before it was sent, at which the server had sent nothing yet."""
    data: list[bytes] = field(default_factory=list)
    """The bytes of each read."""
    control: list[bytes] = field(default_factory=list)
    """The kernel's stamp of each read, empty where there is none."""
    read_at: list[Ns] = field(default_factory=list)
    """When user space had it."""
    empty_at: list[Ns | None] = field(default_factory=list)
    """The last time before it at which the socket was found empty, as far as that is known."""
    stream_end: bytes | None = None
    """Line that ends a stream, where the connection's end may come later."""
    response: Response = field(init=False)
    lazy: bool = False
    """Whether it was drained in large reads after its first token."""
    too_long: bool = False
    """Whether it was given up because more came than any answer takes."""
    inexact: set[int] = field(default_factory=set)
    """Indexes of reads whose stamp may be later than the arrival of their newest byte."""
    swept: set[int] = field(default_factory=set)
    """Indexes of reads that have the time of a sweep in place of a stamp."""
    end: Ns | None = None
    """End of the response, or of the attempt."""
    end_width: Ns | None = None
    """Width of the interval in which the response ended, 0 where its end is known exactly; None if it did not."""
    fault: Fault | None = ABORTED
    """Why the response is not complete, None if it is."""
    offset: int | None = None
    """CLOCK_REALTIME minus the monotonic clock while it was received; None if the clock was set meanwhile."""

    def __post_init__(self) -> None:
        self.response = Response(self.stream_end)

    def arrivals(self) -> "Arrivals":
        """Return the times of the reads; to be called once, when the response is over."""
        stamps = b"".join(self.control)
        if self.offset is None or not stamps or len(stamps) != _STAMP_BYTES * len(self.control):
            return Arrivals(self, self.read_at, stamped=False)
        fields = struct.unpack(f"@{2 * len(self.control)}q", stamps)
        offset = self.offset
        times = [
            seconds * SECOND + nanoseconds - offset
            for seconds, nanoseconds in zip(fields[::2], fields[1::2], strict=True)
        ]
        at = cast("list[Ns]", times)
        for read in self.swept:
            at[read] = self.read_at[read]
        return Arrivals(self, at, stamped=True)

    def settle_end(self, arrivals: "Arrivals", gave_up_at: Ns) -> None:
        """Set the end: of a complete message the arrival of its last byte, otherwise when we gave it up."""
        if self.end is not None:  # with the connection's end
            return
        if self.fault is None:
            self.end_with_last_byte(arrivals)
        else:
            self.end = gave_up_at

    def end_with_last_byte(self, arrivals: "Arrivals") -> None:
        """Set the end to the arrival of the last byte."""
        last = len(arrivals.at) - 1
        self.end = arrivals.at[last]
        self.end_width = Ns(0) if arrivals.is_exact(last) else arrivals.width(last)

    def reject(self, fault: Fault) -> None:
        """Discard all that came, with its times: it is not an answer to this request."""
        self.fault = fault
        self.response = Response(self.stream_end)
        self.data, self.control, self.read_at, self.empty_at = [], [], [], []
        self.inexact, self.swept = set(), set()
        self.end = self.end_width = None

    def begin_again(self) -> None:
        """Forget an attempt that brought no byte."""
        self.sent = self.end = self.end_width = self.offset = None
        self.response = Response(self.stream_end)


class Arrivals:
    """When the bytes of each read arrived, all times from one source.

    ``at`` is the arrival of each read's newest byte, ns; ``stamped``, whether the times are the kernel's.
    """

    __slots__ = ("_transcript", "at", "stamped")

    def __init__(self, transcript: Transcript, at: Sequence[Ns], *, stamped: bool) -> None:
        self._transcript = transcript
        self.at = at
        self.stamped = stamped

    def is_exact(self, read: int) -> bool:
        """Tell whether the newest byte's time is the kernel's and nothing spoiled it."""
        transcript = self._transcript
        return self.stamped and read not in transcript.inexact and read not in transcript.swept

    def width(self, read: int) -> Ns:
        """Return the width of the interval in which the read's other bytes arrived.

        Its lower end is the later of the time of the read before and the last poll that found the socket empty.
        """
        transcript = self._transcript
        before = self.at[read - 1] if read else transcript.sent or 0
        return Ns(max(0, self.at[read] - max(before, transcript.empty_at[read] or 0)))

    def begins_before(self, at: Ns | None) -> bool:
        """Tell whether something had arrived before a time, such as that of the question."""
        return bool(self.at) and at is not None and self.at[0] < at

    def longest_delay(self) -> Ns | None:
        """Return the longest time from a stamp to its read in user space; None without exact stamps."""
        transcript = self._transcript
        if not self.stamped or len(transcript.inexact | transcript.swept) == len(self.at):
            return None
        return cast("Ns", max(map(sub, transcript.read_at, self.at)))

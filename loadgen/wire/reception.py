"""Receiving: one loop reads whatever socket is ready; who waits for a response is woken when it is over.

Between readable and recorded there is a read, four appends, and a look at the last bytes. All else waits until the
response is complete.
"""

import _socket
import fcntl
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.record import Outcome
from loadgen.wire.http1 import HttpError
from loadgen.wire.transcript import SWEPT, Transcript

READ_BYTES = 4096
"""For streams read token by token. Larger ones cost the same time and fragment memory."""

LAZY_READ_BYTES = 262_144
LOW_WATER_BYTES = 65_536
"""A lazy stream wakes us when so much has come, or at its end."""

CONTROL_BYTES = _socket.CMSG_SPACE(16)
SWEEP_MS = 20
"""How often lazy streams are looked at: the width of what is not known of their last token and end."""

TIMEOUT_SWEEP_MS = 100
_GROWTH_KEPT = 16
"""Sightings of growth that are remembered: the last token may lie some before the end, by usage and end mark."""

_LAST_CHUNK = b"\r\n0\r\n\r\n"
_EMPTY_LINE = _LAST_CHUNK[-4:]
"""What a chunked body ends in, with or without trailers."""

_SHORT = 12
"""A read as short as this may hold the end of the body without its beginning."""

_INT = struct.Struct("@i")
_READABLE = 1
"""EPOLLIN, and POLLIN."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one request, seconds."""

    connect: float
    first_byte: float
    idle: float
    total: float


class Poller(Protocol):
    """``select.epoll``, or what stands in for it."""

    def register(self, fd: int, events: int) -> None:
        """Watch a descriptor."""

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """Return ready descriptors, waiting up to ``timeout`` s."""


class Decrypter(Protocol):
    """What turns bytes of the wire into bytes of the response."""

    def decrypt(self, data: bytes) -> bytes:
        """Return the plaintext that ``data`` completes."""

    @property
    def holds_more(self) -> bool:
        """Whether it holds bytes of a record that is still incomplete."""


class Reception:
    """One response being received. It is over when ``ended`` is set: None for a complete message, or the fault."""

    __slots__ = (
        "_first_byte_due",
        "_grown",
        "_pending",
        "_swept_at",
        "_timeouts",
        "_total_due",
        "ended",
        "lazily",
        "over",
        "read_bytes",
        "recvmsg",
        "sock",
        "tls",
        "token_mark",
        "transcript",
        "wake",
    )

    def __init__(
        self,
        sock: _socket.socket,
        tls: Decrypter | None,
        transcript: Transcript,
        timeouts: Timeouts,
        begun: Ns,
    ) -> None:
        self.sock = sock
        self.recvmsg = sock.recvmsg
        self.tls = tls
        self.transcript = transcript
        self.read_bytes = READ_BYTES
        self.over = False
        self.ended: tuple[Outcome, str] | None = None
        self.wake: Callable[[], None] = _nobody
        self.token_mark: Callable[[bytes], object] | None = None
        """Finds a token in a read; a stream that has one is drained lazily from its first token on."""
        self.lazily = False
        self._timeouts = timeouts
        self._first_byte_due = deadline(begun, timeouts.first_byte)
        self._total_due = deadline(begun, timeouts.total)
        self._pending = 0
        self._swept_at: Ns | None = None
        self._grown: list[tuple[int, Ns, Ns | None]] = []
        """What sweeps saw: bytes that wait in the socket, when, and when they were fewer."""

    def take(self, lower: Ns | None) -> bool:
        """Read once; return whether that may have ended it. Raises BlockingIOError where nothing is there."""
        transcript = self.transcript
        try:
            data, control, _, _ = self.recvmsg(self.read_bytes, CONTROL_BYTES)
        except BlockingIOError:
            raise
        except OSError as error:
            self._end(Outcome.BROKEN_STREAM, f"receiving: {error.strerror}")
            return True
        at = now()
        if self.tls is not None or not data:
            return self._take_rarely(data, control, at, lower)
        if self._grown:
            return self._take_swept(data, control, at)
        transcript.data.append(data)
        transcript.control.append(control[0][2] if control else b"")
        transcript.read_at.append(at)
        transcript.empty_at.append(lower)
        response = transcript.response
        if response.looks_at_each_read or data[-4:] == _EMPTY_LINE or len(data) < _SHORT or _LAST_CHUNK in data:
            self._look()
        if self.token_mark is not None and not self.lazily and self.token_mark(data):
            self._become_lazy()
        return self.over

    def sweep(self, at: Ns) -> None:
        """Look at the clock and, where it is drained lazily, at what has come."""
        if self.lazily:
            self._sweep_lazy(at)
        if self.over:
            return
        transcript = self.transcript
        reads, timeouts = transcript.read_at, self._timeouts
        if at >= self._total_due:
            self._end(Outcome.TOTAL_TIMEOUT, f"not complete after {timeouts.total:g} s")
        elif not transcript.response.pieces and len(reads) - 1 <= transcript.response.head_read:  # a head is no answer
            if at >= self._first_byte_due:
                self._end(Outcome.FIRST_BYTE_TIMEOUT, f"no byte of an answer within {timeouts.first_byte:g} s")
        elif at >= deadline(self._grown[-1][1] if self._grown else reads[-1], timeouts.idle):
            self._end(Outcome.IDLE_TIMEOUT, f"nothing for {timeouts.idle:g} s in mid-answer")

    def reset(self) -> None:
        """Give the socket back its low-water mark, for the next request on the same connection."""
        if self.lazily:
            self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, 1)

    def _take_rarely(self, data: bytes, control: list[tuple[int, int, bytes]], at: Ns, lower: Ns | None) -> bool:
        transcript = self.transcript
        plain = self.tls.decrypt(data) if self.tls is not None else data
        if plain:
            if self.tls is not None and self.tls.holds_more:  # the newest bytes are those of a record still incomplete
                transcript.inexact.add(len(transcript.data))
            transcript.data.append(plain)
            transcript.control.append(control[0][2] if control else b"")
            transcript.read_at.append(at)
            transcript.empty_at.append(lower)
            self._look()
        if not data and not self.over:
            self._take_close(at, lower)
        return self.over

    def _take_close(self, at: Ns, lower: Ns | None) -> None:
        """Note that the connection ended. That has no stamp: its time is when it was found out."""
        transcript = self.transcript
        transcript.end = at
        known = [t for t in (transcript.sent, *transcript.read_at[-1:], lower) if t is not None]
        transcript.end_width = Ns(max(0, at - max(known)))
        try:
            complete = transcript.response.add_end(transcript.data)
        except HttpError as error:
            self._end(Outcome.BAD_PROTOCOL, str(error))
            return
        if complete:
            self.over = True
        else:
            where = "in mid-answer" if transcript.data else "without an answer"
            self._end(Outcome.BROKEN_STREAM, f"the server closed the connection {where}")

    def _look(self) -> None:
        """Let the parser see what has come, and learn whether the message is complete."""
        try:
            self.over = self.transcript.response.add(self.transcript.data)
        except HttpError as error:
            self._end(Outcome.BAD_PROTOCOL, str(error))
        if self.over and self._is_closed():
            # The connection's end, where it comes before the last bytes are read, replaces their stamp.
            self.transcript.inexact.add(len(self.transcript.data) - 1)

    def _is_closed(self) -> bool:
        """Whether the other side has closed already."""
        try:
            return not self.sock.recv(1, _socket.MSG_PEEK)
        except OSError:
            return False

    def _end(self, outcome: Outcome, message: str) -> None:
        self.over = True
        self.ended = (outcome, message)

    # Lazily drained streams.

    def _become_lazy(self) -> None:
        self.lazily = self.transcript.lazy = True
        self.read_bytes = LAZY_READ_BYTES
        self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, LOW_WATER_BYTES)

    def _sweep_lazy(self, at: Ns) -> None:
        waiting = _INT.unpack(fcntl.ioctl(self.sock.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0]
        before, self._swept_at = self._swept_at, at
        if waiting > self._pending:
            self._pending = waiting
            self._grown.append((waiting, at, before))
            if len(self._grown) > _GROWTH_KEPT:
                del self._grown[0]
        elif waiting and self._grown and at - self._grown[-1][1] >= SWEEP_MS * MS:
            # It has stopped growing: perhaps the answer is complete and its server does not close.
            self.take(before)
            if self.over:
                self.wake()

    def _take_swept(self, data: bytes, control: list[tuple[int, int, bytes]], at: Ns) -> bool:
        """Keep a large read, cut where sweeps saw it grow, so that each part has the times of its sweep."""
        transcript = self.transcript
        start = 0
        for size, swept_at, before in self._grown:
            if start < size <= len(data):
                transcript.data.append(data[start:size])
                transcript.control.append(SWEPT)
                transcript.read_at.append(swept_at)
                transcript.empty_at.append(before)
                start = size
        if start < len(data):
            transcript.inexact.add(len(transcript.data))
            transcript.data.append(data[start:])
            transcript.control.append(control[0][2] if control else b"")
            transcript.read_at.append(at)
            transcript.empty_at.append(self._swept_at)
        self._grown.clear()
        self._pending = 0
        self._look()
        return self.over


class ReadLoop:
    """All receptions of a process: reads whichever are ready, wakes who waits for those that are over."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._receptions: dict[int, Reception] = {}
        self._polled_at: Ns | None = None
        self._lazy_swept_at = Ns(0)
        self._timeouts_swept_at = Ns(0)
        self._may_be_lazy = 0

    def __len__(self) -> int:
        return len(self._receptions)

    def add(self, reception: Reception) -> None:
        """Begin to receive."""
        fd = reception.sock.fileno()
        self._receptions[fd] = reception
        self._may_be_lazy += reception.token_mark is not None
        self._poller.register(fd, _READABLE)

    def remove(self, reception: Reception) -> None:
        """Stop receiving."""
        fd = reception.sock.fileno()
        if self._receptions.pop(fd, None) is not None:
            self._may_be_lazy -= reception.token_mark is not None
            self._poller.unregister(fd)

    def poll(self, timeout: float = 0.0) -> None:
        """Read all sockets that are ready."""
        receptions = self._receptions
        lower = self._polled_at
        started = now()
        for fd, _ in self._poller.poll(timeout, len(receptions) + 1):
            reception = receptions[fd]
            try:
                if reception.take(lower):
                    self.remove(reception)
                    reception.wake()
            except BlockingIOError:
                continue
        self._polled_at = started

    def poll_if_older_than(self, age: int) -> None:
        """Read, if the last time is more than ``age`` ns ago."""
        if self._polled_at is None or now() - self._polled_at > age:
            self.poll()

    def sweep(self) -> None:
        """Look at the clock for all receptions, and at the backlog of lazy ones; cheap where nothing is due."""
        at = now()
        every_stream = at - self._timeouts_swept_at >= TIMEOUT_SWEEP_MS * MS
        if every_stream:
            self._timeouts_swept_at = at
        elif not self._may_be_lazy or at - self._lazy_swept_at < SWEEP_MS * MS:
            return
        self._lazy_swept_at = at
        for reception in list(self._receptions.values()):
            if every_stream or reception.lazily:
                reception.sweep(at)
                if reception.over:
                    self.remove(reception)
                    reception.wake()


def deadline(start: Ns, timeout: float) -> Ns:
    """Return the time ``timeout`` seconds after ``start``."""
    return Ns(start + int(timeout * SECOND))


def _nobody() -> None:
    """Wake nobody."""

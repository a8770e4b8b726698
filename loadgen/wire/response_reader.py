"""Reads one response from its socket, when the read loop finds it ready.

Between readable and recorded there is a read, four appends, and a look at the last bytes. All else waits until the
response is complete.
"""

import _socket
import fcntl
import re
import struct
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.record import Outcome
from loadgen.wire.fault import Fault
from loadgen.wire.http1 import HttpError
from loadgen.wire.kept import described
from loadgen.wire.transcript import SWEPT, Transcript

LONGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a response. An answer of 100,000 tokens with their log probabilities takes some 40 MiB."""

READ_BYTES = 4096
"""For streams read token by token. Larger ones cost the same time and fragment memory."""

LAZY_READ_BYTES = 262_144
LOW_WATER_BYTES = 65_536
"""A lazy stream wakes us when this many bytes have arrived, or at its end."""

CONTROL_BYTES = _socket.CMSG_SPACE(16)
SWEEP_MS = 20
"""How often lazy streams are looked at: the width of what is not known of their last token and end."""

_SWEPT_AFTER_NS = 100 * SWEEP_MS * MS
"""A stream is checked in every sweep during this time, half as often after twice the time, and so on:
what is not known of its last token stays below 1 % of the time it took."""

_GROWTH_KEPT = 8
"""Sightings of growth that are remembered: the last token may lie some before the end, by usage and end mark."""

_EMPTY_LINE = b"\r\n\r\n"
"""What a chunked body ends in, with or without trailers; bytes that nobody asked for may follow it in the same read."""

_KEEP_ALIVE = re.compile(rb"(?:[0-9a-fA-F]{1,8}\r\n|:[^\r\n]*+(?:\r\n|\r|\n)|\r\n|\r|\n)*+")
"""A read of comments and of the framing around them: what servers send so that nobody takes their silence for death."""

_SHOWN_BYTES = 120
"""Of what is not HTTP, in a message."""

_SHORT = 12
"""A read as short as this may hold the end of the body without its beginning."""

_INT = struct.Struct("@i")
_WAITING = bytearray(_INT.size)
"""Where FIONREAD writes: one that is there already halves what the call costs."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one request, seconds."""

    connect: float
    first_byte: float
    idle: float
    total: float


class Decrypter(Protocol):
    """What turns bytes of the wire into bytes of the response."""

    def decrypt(self, data: bytes) -> bytes:
        """Return the plaintext that ``data`` completes."""

    @property
    def holds_more(self) -> bool:
        """Whether it holds bytes of a record that is still incomplete."""

    @property
    def closed(self) -> bool:
        """Whether the other side has said that nothing more comes."""

    @property
    def fault(self) -> str | None:
        """What makes all further bytes unreadable, in words: an alert, or a record that is corrupt."""


class ResponseReader:
    """One response being received. It has ended when ``over`` is True; ``ended`` is its fault, if it has one."""

    __slots__ = (
        "_answering",
        "_begun",
        "_first_byte_due",
        "_grown",
        "_has_token",
        "_left",
        "_pending",
        "_progress",
        "_searched",
        "_swept_at",
        "_timeouts",
        "_total_due",
        "become_lazy",
        "bug",
        "due",
        "ended",
        "fd",
        "lazily",
        "lazy_mark",
        "over",
        "read_bytes",
        "recvmsg",
        "sock",
        "tls",
        "transcript",
    )

    def __init__(
        self,
        sock: _socket.socket,
        tls: Decrypter | None,
        transcript: Transcript,
        timeouts: Timeouts,
        begun: Ns,
        has_token: Callable[[bytes], object] | None = None,
    ) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.recvmsg = sock.recvmsg
        self.tls = tls
        self.transcript = transcript
        self.read_bytes = READ_BYTES
        self.over = False
        self.ended: Fault | None = None
        self.bug: Exception | None = None
        """An error in our code while it was read; raised by whoever waits for the response."""
        self.lazy_mark: Callable[[bytes], object] | None = None
        """Finds a token in a read; a stream that has one is drained lazily from its first token on."""
        self.lazily = False
        self.become_lazy: Callable[[ResponseReader], None] = ResponseReader.drain_lazily
        self._begun = begun
        self._timeouts = timeouts
        self._first_byte_due = deadline(begun, timeouts.first_byte)
        self._total_due = deadline(begun, timeouts.total)
        self.due = min(self._first_byte_due, self._total_due, deadline(begun, timeouts.idle))
        """No timeout passes before it."""
        self._left = LONGEST_ANSWER
        """Bytes that may still come."""
        self._has_token = has_token
        """Finds a token in a part of a stream; None where the answer is not streamed."""
        self._answering = False
        """Whether the answer proper is known to have begun."""
        self._searched = 0
        """Pieces of the body that were searched for its beginning."""
        self._progress = 0
        """Reads up to the last one that was looked at and held more than comments."""
        self._pending = 0
        self._swept_at: Ns | None = None
        self._grown: deque[tuple[int, Ns, Ns | None]] = deque(maxlen=_GROWTH_KEPT)
        """What sweeps saw: bytes that wait in the socket, when, and when they were fewer."""

    def read_once(self, lower: Ns | None) -> bool:
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
        self._left -= len(data)
        if self._left < 0:
            transcript.too_long = True
            self._end(Outcome.BAD_PROTOCOL, f"the answer is longer than {LONGEST_ANSWER >> 20} MiB: given up")
            return True
        if self.tls is not None or not data:
            return self._take_rarely(data, control, at, lower)
        if self.lazily:
            return self._take_lazily(data, control, at)
        transcript.data.append(data)
        transcript.control.append(control[0][2] if control else b"")
        transcript.read_at.append(at)
        transcript.empty_at.append(lower)
        # Not "in": of bytes it tries for a number first, and raises and catches an exception for each read.
        if data.find(_EMPTY_LINE) >= 0 or len(data) < _SHORT or transcript.response.looks_at_each_read:
            self._look()
        if self.lazy_mark is not None and not self.over and self.lazy_mark(data):
            self.become_lazy(self)
        return self.over

    def check_time(self, at: Ns) -> None:
        """End it if its time is up; otherwise note when that may be."""
        timeouts = self._timeouts
        if at >= self._total_due:
            self._end(Outcome.TOTAL_TIMEOUT, f"not complete after {timeouts.total:g} s")
            return
        self._look()
        if self.over:
            return
        if not self._has_begun():
            self.due = min(self._first_byte_due, self._total_due, deadline(at, timeouts.idle))
            if at >= self._first_byte_due:
                what = "byte of an answer" if self._has_token is None else "token"
                self._end(Outcome.FIRST_BYTE_TIMEOUT, f"no {what} within {timeouts.first_byte:g} s")
            return
        self._check_idle(at)

    def _check_idle(self, at: Ns) -> None:
        timeouts = self._timeouts
        idle_due = deadline(self._progressed_at(), timeouts.idle)
        self.due = min(idle_due, self._total_due)
        if at >= idle_due and not self.over:  # reading may have ended it
            kept_alive = self._progress < len(self.transcript.data) - 1
            how = ", but kept alive by comments: no token" if kept_alive else ""
            self._end(Outcome.IDLE_TIMEOUT, f"nothing for {timeouts.idle:g} s in mid-answer{how}")

    def _has_begun(self) -> bool:
        """Whether the answer proper has begun: a token of a stream, or the text of another body.

        A head, comments, empty lines and an early chunk with the role say only that the server has taken the request.
        """
        pieces = self.transcript.response.pieces
        if not self._answering and self._searched < len(pieces):
            before = max(0, self._searched - 1)  # what marks a token may have been cut in two
            new = b"".join(pieces[before:])
            self._answering = bool(new.strip() if self._has_token is None else self._has_token(new))
            self._searched = len(pieces)
        return self._answering or self.lazily

    def _progressed_at(self) -> Ns:
        """Return when something last came that was more than a comment; what waits in the socket is read for that."""
        if self.lazily:
            with suppress(BlockingIOError):
                self.read_once(self._swept_at)
        transcript = self.transcript
        for index in range(len(transcript.data) - 1, self._progress, -1):
            if not _KEEP_ALIVE.fullmatch(transcript.data[index]):
                self._progress = index
                break
        return transcript.read_at[self._progress]

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
        if not self.over and self.tls is not None and self.tls.fault is not None:
            self._end(Outcome.TLS, self.tls.fault)
        if not self.over and (not data or (self.tls is not None and self.tls.closed)):
            self._take_close(at, lower)
        return self.over

    def _take_close(self, at: Ns, lower: Ns | None) -> None:
        """Note that the connection ended. That has no stamp: its time is when it was found out."""
        transcript = self.transcript
        transcript.end = at
        known = [t for t in (transcript.sent, *transcript.read_at[-1:], lower) if t is not None]
        transcript.end_width = Ns(at - max(known)) if known else None
        try:
            complete = transcript.response.add_end(transcript.data)
        except HttpError as error:
            self._end(Outcome.BAD_PROTOCOL, error.message, error.data)
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
            self._end(Outcome.BAD_PROTOCOL, error.message, error.data)
        if self.over and self._is_closed():
            # The connection's end, where it comes before the last bytes are read, replaces their stamp.
            self.transcript.inexact.add(len(self.transcript.data) - 1)

    def _is_closed(self) -> bool:
        """Whether the other side has closed already."""
        try:
            return not self.sock.recv(1, _socket.MSG_PEEK)
        except OSError:
            return False

    def _end(self, outcome: Outcome, message: str, data: bytes = b"") -> None:
        """End it; ``data`` is what the server sent in place of an answer, for the message."""
        self.over = True
        self.ended = Fault(outcome, f"{message}: {described(data[:_SHOWN_BYTES], '')}" if data else message)

    # Lazily drained streams.

    def drain_lazily(self) -> None:
        """Let the kernel wake us per many tokens, and at the end."""
        self.lazily = self.transcript.lazy = True
        self.read_bytes = LAZY_READ_BYTES
        self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVLOWAT, LOW_WATER_BYTES)

    def sweep(self, at: Ns) -> bool:
        """Note how much has come; read it where nothing comes any more, as the server may not close.

        Returns whether that ended it.
        """
        fcntl.ioctl(self.fd, termios.FIONREAD, _WAITING)
        waiting = _INT.unpack_from(_WAITING)[0]
        if waiting > self._pending:
            self._pending = waiting
            self._grown.append((waiting, at, self._swept_at))
        elif waiting and self._has_stopped(at):
            self.read_once(self._swept_at)
        self._swept_at = at
        return self.over

    def sweeps_off(self, at: Ns) -> int:
        """Return in how many sweeps to look at it again: in the next one, or later if it has gone on for long."""
        age = at - self._begun
        return age // _SWEPT_AFTER_NS if age > _SWEPT_AFTER_NS else 1

    def _has_stopped(self, at: Ns) -> bool:
        """Tell whether it has not grown for twice as long as it ever took to, as far as that is remembered."""
        times = [grown_at for _, grown_at, _ in self._grown]
        gaps = (later - earlier for earlier, later in pairwise(times))
        return bool(times) and at - times[-1] > 2 * max(SWEEP_MS * MS, *gaps, 0)

    def _take_lazily(self, data: bytes, control: list[tuple[int, int, bytes]], at: Ns) -> bool:
        """Keep a large read, cut where sweeps saw it grow, so that each part has the times of its sweep.

        That the socket was not ready at the last poll says nothing here: below the mark it may have held data.
        """
        transcript = self.transcript
        start = 0
        for size, swept_at, before in self._grown:
            if start < size <= len(data):
                transcript.swept.add(len(transcript.data))
                transcript.data.append(data[start:size])
                transcript.control.append(SWEPT)
                transcript.read_at.append(swept_at)
                transcript.empty_at.append(before)
                start = size
        if start < len(data):
            transcript.data.append(data[start:])
            transcript.control.append(control[0][2] if control else b"")
            transcript.read_at.append(at)
            transcript.empty_at.append(self._swept_at)
        self._grown.clear()
        self._pending = 0
        self._look()
        return self.over


def deadline(start: Ns, timeout: float) -> Ns:
    """Return the time ``timeout`` seconds after ``start``."""
    return Ns(start + int(timeout * SECOND))

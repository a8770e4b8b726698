"""HTTP/1.1: the bytes of a request, and reading a response by llhttp."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import httptools

LONGEST_HEAD = 256 * 1024
"""Bytes of a response's head, informational ones before it included; servers themselves take 8 to 64 KiB."""


class HttpError(Exception):
    """What the server sent is not HTTP; ``data`` are the bytes, whole, as they have to be redacted first."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.message = message
        self.data = data


def head_bytes(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request, to which :func:`with_body` adds the rest.

    Raises ValueError on a header that would break out of its line.
    """
    for name, value in headers.items():
        if any(c in value for c in "\r\n\0"):
            raise ValueError(f"the value of header {name} contains a line end")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, ""]).encode("latin-1")


def with_body(head: bytes, own: Mapping[str, str], body: bytes) -> bytes:
    """Return a whole request: a head made once, the headers that differ from request to request, and the body."""
    more = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, more.encode(), len(body), body)


class Response:
    """A response, parsed from its reads as far as they are asked to be looked at.

    While a chunked stream goes on, a read is only looked at for the empty line that the last chunk ends in; llhttp sees
    the reads when one is there. So the cost of a read on the way is a comparison of its last bytes.
    """

    def __init__(self, stream_end: bytes | None = None) -> None:
        """Read a response. ``stream_end``: line that ends a stream whose end only the connection's end announces."""
        self._stream_end = stream_end
        self._tail_bytes = len(stream_end or b"") + 32
        """Of the body, kept to find that line with some blank lines after it."""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.pieces: list[bytes] = []
        """The body, as it came."""
        self.on_body = self.pieces.append
        """What llhttp calls with each piece. Every token may be a piece, so no function of Python's stands between."""
        self.pieces_until: list[int] = []
        """Number of pieces up to the end of each read."""
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self.looks_at_each_read = True
        """Whether the end can only be found by parsing each read; else the last chunk's empty line announces it."""
        self.head_read = 0
        """Index of the read in which the head ended, so far as is known."""
        self._head_complete = False
        self._head_bytes = 0
        self._read = -1
        self._close_delimited = False
        self._kept_alive = False
        self._tail = b""
        self._whole: int | None = None
        """Pieces of the whole body."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request after this response."""
        return self.complete and not self._close_delimited and self._kept_alive

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(self.pieces)

    def add(self, reads: Sequence[bytes]) -> bool:
        """Parse what is new among all reads so far; return whether the message is complete. Raises HttpError."""
        for index in range(self._read + 1, len(reads)):
            self._read = index
            if not self.complete:  # bytes after the message are not ours to read
                try:
                    self._feed(reads[index])
                finally:
                    self._note_pieces()
        self.complete = self.complete or self._stream_has_ended()
        return self.complete

    def add_end(self, reads: Sequence[bytes]) -> bool:
        """Take the end of the connection; return whether it leaves the message complete. Raises HttpError."""
        self.add(reads)
        if self._head_complete and self._close_delimited:
            self.complete = True
        return self.complete

    def release(self) -> None:
        """Let go of the parser, which refers to this object: then no garbage collection is needed for either."""
        self._parser = None

    def flush(self, reads: Sequence[bytes]) -> None:
        """Parse what has come of a response that stays incomplete."""
        with suppress(HttpError):
            self.add(reads)

    def _feed(self, data: bytes) -> None:
        assert self._parser is not None
        if not self._head_complete:
            self._head_bytes += len(data)
            if self._head_bytes > LONGEST_HEAD + len(data):  # the last read may hold the body's beginning
                raise HttpError(f"the head of the response is longer than {LONGEST_HEAD // 1024} KiB")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise HttpError("the server wants to speak another protocol (101)") from None
        except httptools.HttpParserError as error:
            if not self.complete:
                raise HttpError(f"not HTTP: {error}", data) from None
            self._kept_alive = False  # bytes after the message

    def _note_pieces(self) -> None:
        """Note how many pieces of the body there are after a read; those of a message after ours are none of it."""
        if self._whole is not None:
            del self.pieces[self._whole :]
        if self._close_delimited:
            new = self.pieces[self.pieces_until[-1] if self.pieces_until else 0 :]
            self._tail = (self._tail + b"".join(new))[-self._tail_bytes :]
        self.pieces_until.append(len(self.pieces))

    def _stream_has_ended(self) -> bool:
        """Whether a body that only the connection's end delimits has reached the line that ends its stream."""
        if not self._close_delimited or self._stream_end is None:
            return False
        return self._tail.rstrip().endswith(self._stream_end) and self._tail.endswith((b"\n", b"\r"))

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """Start a head; nobody asked for one after our message."""
        if self.complete:
            self._kept_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers of a chunked body are none."""
        if not self._head_complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Learn how the message will end."""
        if self._head_complete:  # another message after ours
            return
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 200:  # noqa: PLR2004 informational: the response proper is still to come
            self.headers.clear()
            return
        self._head_complete = True
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        self.looks_at_each_read = not chunked
        self.head_read = self._read
        framed = chunked or "content-length" in self.headers or self.status in {204, 304}
        self._close_delimited = not framed

    def on_message_complete(self) -> None:
        """Note the end of the message, unless it was only informational."""
        if self._head_complete and not self.complete:
            self.complete = True
            self._whole = len(self.pieces)
            assert self._parser is not None
            self._kept_alive = self._parser.should_keep_alive()  # llhttp forgets it after the message

"""HTTP/1.1: the bytes of a request, and reading a response by llhttp."""

from collections.abc import Mapping
from contextlib import suppress

import httptools


class HttpError(Exception):
    """What the server sent is not HTTP."""


def request_bytes(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a whole request, head and body; raises ValueError on a header that would break out of its line."""
    lines = [f"{method} {path} HTTP/1.1"]
    for name, value in headers.items():
        if any(c in value for c in "\r\n\0"):
            raise ValueError(f"the value of header {name} contains a line end")
        lines.append(f"{name}: {value}")
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Response:
    """A response as it arrives, read by read.

    While a stream goes on, a read is only looked at for the end of the message; llhttp sees the reads when they may
    hold it. So the cost of a read on the way is a comparison of its last bytes.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.pieces: list[tuple[int, bytes]] = []
        """The body, as (index of the read, bytes)."""
        self._parser = httptools.HttpResponseParser(self)
        self._head_complete = False
        self._unparsed: list[bytes] = []
        self._reads = 0
        self._read = -1
        self._length: int | None = None
        self._body_bytes = 0
        self._unparsed_bytes = 0
        self._close_delimited = False
        self._kept_alive = False
        self._tail = b""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may carry another request after this response."""
        return self.complete and not self._close_delimited and self._kept_alive

    @property
    def body(self) -> bytes:
        """The body so far."""
        return b"".join(piece for _, piece in self.pieces)

    def add(self, data: bytes) -> bool:
        """Take the next read; return whether the message is complete. Raises HttpError."""
        self._unparsed.append(data)
        self._unparsed_bytes += len(data)
        if not self._head_complete or self._may_end(data):
            self._parse()
            self.complete = self.complete or self._stream_says_done()
        return self.complete

    def add_end(self) -> bool:
        """Take the end of the connection; return whether the message was complete without it. Raises HttpError."""
        self._parse()
        if self._head_complete and self._close_delimited:
            self.complete = True
        return self.complete

    def flush(self) -> None:
        """Parse what has come, for the sake of a response that stays incomplete."""
        with suppress(HttpError):
            self._parse()

    def _may_end(self, data: bytes) -> bool:
        if self._length is not None:
            return self._body_bytes + self._unparsed_bytes >= self._length
        if self._close_delimited:
            return True
        # The last chunk, with or without trailers, ends in an empty line; a shorter read may hold its second half.
        return data.endswith(b"\r\n\r\n") or (len(data) < len(b"\r\n\r\n") and data.endswith(b"\n"))

    def _parse(self) -> None:
        reads, self._unparsed, self._unparsed_bytes = self._unparsed, [], 0
        for data in reads:
            self._read = self._reads
            self._reads += 1
            if not self.complete:  # bytes behind the message are not ours to read
                self._feed(data)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise HttpError(f"not HTTP: {error}: {data[:60]!r}") from None

    def _stream_says_done(self) -> bool:
        """Whether a body that only the connection's end delimits has reached ``[DONE]``: nothing comes after it."""
        if not self._close_delimited:
            return False
        return self._tail.rstrip().endswith(b"data: [DONE]") and self._tail.endswith((b"\n", b"\r"))

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """Start a head."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers of a chunked body are none."""
        if not self._head_complete:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Learn how the message will end."""
        if self._head_complete:  # another message behind ours
            return
        self.status = self._parser.get_status_code()
        if self.status < 200:  # noqa: PLR2004 informational: the response proper is still to come
            self.headers.clear()
            return
        self._head_complete = True
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not chunked and "content-length" in self.headers:
            self._length = int(self.headers["content-length"])
        self._close_delimited = not chunked and self._length is None and self.status not in {204, 304}

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body with the read that it came in."""
        if not self.complete:
            self.pieces.append((self._read, data))
            self._body_bytes += len(data)
            if self._close_delimited:
                self._tail = (self._tail + data)[-32:]

    def on_message_complete(self) -> None:
        """Note the end of the message, unless it was only informational."""
        if self._head_complete:
            self.complete = True
            self._kept_alive = self._parser.should_keep_alive()  # llhttp forgets it behind the message

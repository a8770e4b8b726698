"""Requests, read from bytes as they come: HTTP/1.1 with a length, pipelined or not, and the chat inside."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([^\r]*)", re.IGNORECASE)
_CONNECTION = re.compile(rb"\r\nconnection:[ \t]*(close|keep-alive)", re.IGNORECASE)
_EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"([A-Z]+) ([^ \r\n]+) HTTP/1\.([01])\r\n")
_HEAD_BYTES = 65_536
_BODY_BYTES = 64 * 1024 * 1024
_TOKENS = 100_000
_DEFAULT_TOKENS = 128


class BadRequest(Exception):  # noqa: N818 HTTP's name of it
    """What came cannot be read as a request; nothing behind it can be read either."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    path: str
    request_id: str
    """Empty where the client sent none."""
    keep_alive: bool
    body: bytes


@dataclass(slots=True)
class RequestReader:
    """Takes bytes and gives requests."""

    received: bytearray = field(default_factory=bytearray)
    needed: int = 0
    """Below so many bytes there is nothing to look for."""
    expects: bool = False
    """The client waits for ``100 Continue`` before it sends the body."""

    def next(self) -> Request | None:
        """Return the next request if it is complete; raises BadRequest."""
        received = self.received
        if not received or len(received) < self.needed:
            return None
        end = received.find(b"\r\n\r\n")
        if end < 0:
            if len(received) > _HEAD_BYTES:
                raise BadRequest(431, "the head is too long")
            return None
        head = bytes(received[: end + 2])
        whole = end + 4 + _length(head)
        if len(received) < whole:
            self.expects = self.needed == 0 and _EXPECT.search(head) is not None
            self.needed = whole
            return None
        body = bytes(received[end + 4 : whole])
        del received[:whole]
        self.needed = 0
        return _request(head, body)


def _length(head: bytes) -> int:
    if _CHUNKED.search(head):
        raise BadRequest(411, "a body needs a content-length")
    found = _LENGTH.search(head)
    length = int(found[1][:20]) if found else 0
    if length > _BODY_BYTES:
        raise BadRequest(413, "the body is too long")
    return length


def _request(head: bytes, body: bytes) -> Request:
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise BadRequest(400, "not HTTP/1.1")
    asked = _CONNECTION.search(head)
    keep_alive = asked[1].lower() == b"keep-alive" if asked else line[3] == b"1"
    found = _REQUEST_ID.search(head)
    request_id = found[1].decode("latin-1").rstrip() if found else ""
    path = line[2].partition(b"?")[0].decode("latin-1")
    return Request(line[1].decode(), path, request_id, keep_alive, body)


@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat asks for."""

    prompt: int
    """Tokens of the prompt: its words."""
    output: int
    """Tokens of the answer."""
    stream: bool
    usage: bool
    """Usage at the end of the stream is asked for."""


def read_chat(body: bytes) -> Chat:
    """Read a chat as vLLM's clients write it; raises ValueError."""
    try:
        asked: dict[str, Any] = json.loads(body)
        prompt = sum(_words(message.get("content")) for message in asked["messages"])
        output = int(asked.get("max_completion_tokens") or asked.get("max_tokens") or _DEFAULT_TOKENS)
        usage = (asked.get("stream_options") or {}).get("include_usage")
        stream = bool(asked.get("stream"))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise ValueError("not a chat") from e
    if not 0 < output <= _TOKENS:
        raise ValueError(f"an answer has 1 to {_TOKENS} tokens")
    return Chat(prompt, output, stream, bool(usage))


def _words(content: Any) -> int:  # noqa: ANN401 JSON
    """Count the words of a message, which are a text or a list of parts."""
    if content is None:
        return 0
    if isinstance(content, str):
        return len(content.split())
    return sum(len(part["text"].split()) for part in content if part.get("type") == "text")

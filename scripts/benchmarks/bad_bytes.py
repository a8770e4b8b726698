"""Responses that no server should send: recorded ones of all engines, broken at random.

A response is made from a seed, and read twice through the client's own code: token by token, and drained lazily. Only
the socket is a stand-in; it hands out the bytes in random pieces.
"""

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import Any

from benchmarks.machine import ROOT
from loadgen.clock import Ns
from loadgen.protocol.api import Api, ApiError
from loadgen.protocol.chat import ChatApi
from loadgen.protocol.client import Settings, conclude
from loadgen.protocol.decode import shows_token
from loadgen.protocol.errors import error_message
from loadgen.record import RequestRecord, from_line, to_line
from loadgen.request import Request
from loadgen.wire.http1 import LONGEST_HEAD
from loadgen.wire.kept import described, kept, redacted_bytes
from loadgen.wire.response_reader import READ_BYTES, ResponseReader, Timeouts
from loadgen.wire.target import Target
from loadgen.wire.transcript import Transcript

KEY = "sk-fuzz-0123456789"
_TRANSCRIPTS = ROOT / "tests" / "transcripts"
_TIMEOUTS = Timeouts(10, 10, 10, 10)

PIECES: Sequence[bytes] = (
    *(b"\n", b"\r", b"\r\n", b"\n\n", b"\n\n\n", b"\r\n\r\n", b"\r\n0\r\n\r\n", b"0\r\n\r\n", b"data:", b"data: "),
    *(
        b"data: \n\n",
        b"data: [DONE]\n\n",
        b"event: error\n",
        b": ping\n\n",
        b"id: 1\n",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\xff",
    ),
    *(
        b"\xed\xa0\xbd",
        b"\\ud83d",
        b"\\ude00",
        b"\\u0000",
        b'"',
        b"\\",
        b'\\"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"0.5",
    ),
    *(b"null", b"true", b"-1", b"1e308", b"1e999", b"18446744073709551616", b"9" * 400, b"9" * 5000, b"NaN"),
    *(b"[" * 3000, b'{"a":' * 2000, b'"content":"x"', b'"content":""', b'"content":null', b'"reasoning_content":"r"'),
    *(b'"refusal":"no"', b'"text":"t"', b'"error":{"message":"boom"}', b'"finish_reason":"abort"', b'"choices":[]'),
    *(b'"usage":{"completion_tokens":-7}', b'"usage":{"completion_tokens":1e400}', b"data: nonsense\n\n"),
    b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"error":{"message":"x"}}\n\n',
    b'event: error\ndata: {"message":"x"}\n\n',
    *(b"<html><title>t</title>", b"\x1b[31m", b"\xe2\x80\xae", b"ffffffffffffffff\r\n", b"-1\r\n", b";ext=1\r\n"),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Content-Length: 3\r\n", b"Content-Type: application/json\r\n", b"Content-Type: text/event-stream\r\n"),
    *(b"Content-Encoding: gzip\r\n", KEY.encode()),
)
"""Bytes that mean something to some layer."""


class PieceSocket:
    """Hands out a response piece by piece, a millisecond apart by the kernel's clock, and then its end."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = list(pieces)
        self._read = 0

    def fileno(self) -> int:
        """Return a descriptor that nobody uses."""
        return -1

    def recvmsg(self, _size: int, _control: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, None]:
        """Return the next piece, with a stamp."""
        if not self._pieces:
            return b"", [], 0, None
        self._read += 1
        data = self._pieces.pop(0)
        return data, [(1, 35, struct.pack("@qq", 0, self._read * 1_000_000))], 0, None

    def recv(self, _size: int, _flags: int) -> bytes:
        """Find nothing."""
        raise BlockingIOError

    def setsockopt(self, _level: int, _option: int, _value: int) -> None:
        """Take a low-water mark, which pieces do not heed."""


@dataclass(frozen=True)
class Recorded:
    """One response as an engine sent it."""

    raw: bytes
    head: bytes
    """Without what says where the body ends."""
    body: bytes
    engine: str
    stream: bool


@dataclass(frozen=True)
class Case:
    """One broken response."""

    engine: str
    stream: bool
    raw: bytes
    cuts: Sequence[int] = field(repr=False)


def case_of(seed: int) -> Case:
    """Return the broken response of a seed."""
    rng = random.Random(seed)
    recorded = rng.choice(_transcripts())
    raw = bytearray(recorded.raw)
    if rng.random() < 0.3:  # noqa: PLR2004 the framing is broken, too
        _break_often(raw, rng)
    else:
        body = bytearray(recorded.body)
        if recorded.stream and rng.random() < 0.6:  # noqa: PLR2004 as many tokens as an answer has, of which most are alike
            body = bytearray(_longer(bytes(body), rng))
        _break_often(body, rng)
        raw = bytearray(recorded.head + _framed(bytes(body), rng))
    if rng.random() < 0.05:  # noqa: PLR2004 now and then nothing of HTTP is left
        raw = raw.partition(b"\r\n\r\n")[2]
    cuts = sorted({rng.randrange(len(raw) + 1) for _ in range(rng.choice((0, 1, 3, 20)))})
    return Case(recorded.engine, recorded.stream, bytes(raw), cuts)


def _break_often(raw: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4, 16))):
        _break(raw, rng)


def _unframed(raw: bytes) -> tuple[bytes, bytes]:
    """Return the head of a recorded response, without what says where its body ends, and the body."""
    transcript = Transcript(sent=Ns(0), offset=0)
    transcript.response.add([raw])
    head = raw.partition(b"\r\n\r\n")[0]
    framing = (b"transfer-encoding", b"content-length", b"connection")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(framing)]
    return b"\r\n".join(lines) + b"\r\n", transcript.response.body


def _framed(body: bytes, rng: random.Random) -> bytes:
    """Put a body into one of HTTP's framings: until the connection's end, of a length, in chunks, perhaps events."""
    match rng.randrange(5):
        case 0:
            return b"Connection: close\r\n\r\n" + body
        case 1:
            return b"Content-Length: %d\r\n\r\n" % len(body) + body
        case 2:
            return _chunked([event + b"\n\n" for event in body.removesuffix(b"\n\n").split(b"\n\n")])
        case _:
            size = rng.choice((50, 300, 5000))
            return _chunked([body[at : at + size] for at in range(0, len(body), size)])


def _chunked(chunks: Sequence[bytes]) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


@cache
def _api(engine: str) -> Api:
    """Return how an engine speaks; the plain one without a look at the catalogue, which takes long under callgrind."""
    if engine == "endpoint":
        return ChatApi()
    from loadgen.engines.catalogue import ENGINES

    return ENGINES[engine].api


@cache
def _transcripts() -> Sequence[Recorded]:
    """Return all recorded responses."""
    from loadgen.engines.catalogue import ENGINES

    found = []
    for path in sorted(_TRANSCRIPTS.glob("*.http")):
        name = path.stem
        engine = max((e for e in ENGINES if name.startswith(e)), key=len, default="endpoint")
        raw = path.read_bytes()
        found.append(Recorded(raw, *_unframed(raw), engine, b"event-stream" in raw))
    return found


def _longer(body: bytes, rng: random.Random) -> bytes:
    """Repeat an event in the middle of a stream, as often as an answer has tokens, now and then with another number."""
    events = body.split(b"\n\n")
    middle = len(events) // 3
    event = events[middle]
    many = [event] * rng.choice((2, 20, 150))
    if rng.random() < 0.3:  # noqa: PLR2004 a server that writes the time of each event
        many = [event.replace(b"17", b"%d" % (17 + number // 40)) for number, event in enumerate(many)]
    return b"\n\n".join([*events[:middle], *many, *events[middle + 1 :]])


def _break(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw) + 1)
    length = rng.choice((0, 0, 1, 3, 40))
    match rng.randrange(11):
        case 0 | 1 | 2:
            raw[at : at + length] = rng.choice(PIECES)
        case 7 | 8 | 9 | 10:  # where a server would put something else
            boundary = raw.find(rng.choice((b"\n\n", b"{", b",", b'"content"', b'"}')), at)
            at = len(raw) if boundary < 0 else boundary + rng.choice((0, 1, 2))
            raw[at:at] = rng.choice(PIECES)
        case 3:
            raw[at : at + length] = rng.randbytes(rng.choice((1, 8, 200)))
        case 4:
            del raw[at:]
        case 5:
            other = rng.randrange(len(raw) + 1)
            raw[at:at] = raw[other : other + rng.choice((10, 100, 1000))]
        case _:
            del raw[at : at + rng.choice((1, 10, 100))]


def read(case: Case, *, lazily: bool) -> RequestRecord:
    """Read a response as the client does."""
    return read_bytes(case.raw, case.cuts, engine=case.engine, stream=case.stream, lazily=lazily)


def read_bytes(
    raw: bytes, cuts: Sequence[int] = (), *, engine: str = "endpoint", stream: bool = True, lazily: bool = False
) -> RequestRecord:
    """Read bytes as the client does, cut into the reads of a socket, and encode their record."""
    api = _api(engine)
    transcript = Transcript(sent=Ns(0), offset=0, stream_end=api.stream_end)
    # The same pieces in both ways: an answer without a length is over when a read ends in [DONE].
    edges = sorted({0, *cuts, *range(0, len(raw), READ_BYTES), len(raw)})
    sock: Any = PieceSocket([raw[a:b] for a, b in pairwise(edges)])
    reader = ResponseReader(sock, None, transcript, _TIMEOUTS, Ns(0), api.has_token if stream else None)
    reader.lazy_mark = partial(shows_token, api) if lazily else None
    while not reader.over:
        reader.read_once(None)
    transcript.fault = reader.ended
    request = Request(id="r", input="?", model="tiny", max_tokens=8, stream=stream)
    settings = Settings(Target("127.0.0.1", 1), api, _TIMEOUTS, secrets=(KEY,))
    return from_line(to_line(conclude(settings, request, transcript).record))


def read_apart(data: bytes) -> None:
    """Give bytes to all that reads a server's words outside a stream."""
    from loadgen.measure.counters import parse

    error_message(data)
    kept(described(data, "text/html"), (KEY,))
    redacted_bytes(data, (KEY,))
    parse(data[:20_000].decode(errors="replace"), at_ns=0, names={"running": ("vllm:num_requests_running",)})
    for engine in ("endpoint", "tgi-1.0.1"):
        api = _api(engine)
        api.has_token(data)
        api.text_span(data)
        for read_one in (api.read_event, api.read_answer):
            try:
                read_one(data)
            except ApiError:
                continue


def disagreement(eager: RequestRecord, lazy: RequestRecord) -> str | None:
    """Name the first of outcome, tokens and reasons in which two readings of the same bytes differ."""
    for name in ("outcome", "output_tokens", "counted_by", "input_tokens", "finish_reason", "rejected_usage"):
        one, other = getattr(eager, name), getattr(lazy, name)
        if one != other:
            return f"{name}: {one!r} token by token, {other!r} lazily"
    return None


def secrets_in(record: RequestRecord) -> bool:
    """Tell whether a record repeats the key, or a piece of it."""
    return KEY[:8].encode() in to_line(record)


SHAPES: dict[str, bytes] = {
    "one line without an end": b"x",
    "line ends": b"\n",
    "carriage returns": b"\r",
    "CRLF": b"\r\n",
    "blank events": b"data:\n\n",
    "comments": b": ping\n\n",
    "data lines of one event": b"data: x\n",
    "tokens": b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n',
    "tokens that are no two alike": b'data: {"choices":[{"delta":{"content":"x"}}],"created":%d}\n\n',
    "quotes": b'"',
    "backslashes": b"\\",
    "escaped text": b'data: {"choices":[{"delta":{"content":"\\\\\\"',
    "brackets": b"[",
    "fields": b'"content":"',
    "errors": b'data: {"error":{"message":"x"}}\n\n',
    "HTML": b"<p>",
    "the key": KEY.encode(),
    "key pieces": KEY[:9].encode(),
    "spaces": b" ",
    "gzip": bytes(range(7, 256)),
}
"""Bodies that are one thing over and over."""


def bodies(length: int) -> Iterator[tuple[str, bytes]]:
    """Yield responses of each shape with a body of about so many bytes, in each framing that matters."""
    for name, unit in SHAPES.items():
        body = b"".join(unit % n if b"%d" in unit else unit for n in range(length // len(unit)))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        yield name, head + body
        token = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
        yield f"{name}, between tokens", head + token + body + b"\n\n" + token
    yield "an error", b"HTTP/1.1 500 Error\r\n\r\n" + b'{"error":"' * (length // 10)
    yield "head", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (min(length, LONGEST_HEAD) // 6) + b"\r\n"
    yield "informational heads", b"HTTP/1.1 100 Continue\r\n\r\n" * (min(length, LONGEST_HEAD) // 25)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield "chunks of one byte", head + b"1\r\nx\r\n" * (length // 6)
    yield "short chunks with line ends", head + b"4\r\n\r\n\r\n\r\n" * (length // 9)

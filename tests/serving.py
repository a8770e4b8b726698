"""A real server on a real socket that plays a script: bytes and pauses, as the test wrote them."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

Step = tuple[float, bytes]
"""Seconds to wait, then bytes to send."""

MODELS = b'{"object":"list","data":[{"id":"scripted","object":"model","owned_by":"tests"}]}'


def response(body: bytes, *, status: str = "200 OK", kind: str = "application/json", extra: str = "") -> bytes:
    """A whole response with a length."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(data: str | bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + (data.encode() if isinstance(data, str) else data) + b"\n\n"


def token(text: str, finish: str | None = None) -> bytes:
    """One event of a chat stream with a token in it."""
    end = "null" if finish is None else f'"{finish}"'
    return event(f'{{"choices":[{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":{end}}}]}}')


def usage(output: int, given: int = 7) -> bytes:
    """The usage chunk of vLLM and OpenAI."""
    return event(f'{{"choices":[],"usage":{{"prompt_tokens":{given},"completion_tokens":{output}}}}}')


DONE = event("[DONE]")

HANG_UP = b"<hang up>"
"""Instead of bytes: close the connection."""

RESET = b"<reset>"
"""Instead of bytes: reset the connection."""


def stream(*events: bytes, pause: float = 0.0, first: float = 0.0) -> list[Step]:
    """A well-formed stream, an event at a time."""
    steps: list[Step] = [(first, SSE_HEAD)]
    steps += [(pause, chunk(e)) for e in events]
    return [*steps, (0.0, LAST_CHUNK)]


def answer(tokens: int = 3, pause: float = 0.0) -> list[Step]:
    """A well-formed answer of so many tokens."""
    said = [token(f"t{i} ", "length" if i == tokens - 1 else None) for i in range(tokens)]
    return stream(*said, usage(tokens), DONE, pause=pause)


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[int, Request], Iterable[Step]]
"""From the number of the POST (0, 1, ...) and the request to what is sent; the connection is closed after it."""


@dataclass
class ScriptServer:
    """What the server is, and what it has seen."""

    url: str
    requests: list[Request] = field(default_factory=list)
    sent_at: list[list[int]] = field(default_factory=list)
    """For each POST the monotonic time just before each send, ns."""
    delivered: list[int] = field(default_factory=list)
    """For each POST how many sends are over: on loopback their bytes are in the client's socket by then."""
    closed: threading.Event = field(default_factory=threading.Event)
    """Set once a connection has been closed on which there was a POST."""

    def sends(self, count: int, number: int = 0) -> list[int]:
        """Wait until so many sends of a POST are over; return the times just before them."""
        due = time.monotonic() + 60
        while len(self.delivered) <= number or self.delivered[number] < count:
            assert time.monotonic() < due, "the server has not sent it"
            time.sleep(0.005)
        return self.sent_at[number]

    connections: int = 0


@contextmanager
def serving(
    script: Script | Sequence[Step],
    *,
    models: bytes | None = None,
    context: ssl.SSLContext | None = None,
    keep_open: bool = False,
    close_after: float = 0.0,
    address: str = "127.0.0.1",
) -> Iterator[ScriptServer]:
    """Serve a script on loopback until the block ends. ``keep_open`` serves more requests on a connection."""
    plan = script if callable(script) else (lambda _number, _request: script)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family, backlog=256)
    scheme = "https" if context else "http"
    host = f"[{address}]" if ":" in address else address
    server = ScriptServer(f"{scheme}://{host}:{listener.getsockname()[1]}")
    stopped = threading.Event()
    lock = threading.Lock()

    def converse(sock: socket.socket) -> None:
        posted = False
        try:
            if context:
                sock = context.wrap_socket(sock, server_side=True)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (request := _read(sock)) is not None:
                if request.method == "GET":
                    sock.sendall(models or response(MODELS))
                else:
                    with lock:
                        number = len(server.requests)
                        server.requests.append(request)
                        server.delivered.append(0)
                        posted = True
                        times: list[int] = []
                        server.sent_at.append(times)
                    for delay, data in plan(number, request):
                        stopped.wait(delay)
                        if data is HANG_UP:
                            return
                        if data is RESET:
                            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                            return
                        times.append(time.monotonic_ns())
                        sock.sendall(data)
                        server.delivered[number] += 1
                if not keep_open:
                    break
            stopped.wait(close_after)
        except OSError:
            pass
        finally:
            sock.close()
            if posted:
                server.closed.set()

    def accept() -> None:
        while not stopped.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            threading.Thread(target=converse, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        stopped.set()
        listener.close()


def _read(sock: socket.socket) -> Request | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        body += sock.recv(65536)
    method, path, _ = lines[0].split(" ")
    return Request(method, path, headers, body)

"""The server: one epoll loop over all connections, and a heap of what is to be sent when."""

import heapq
import json
import os
import re
import select
import socket
import time
from collections.abc import Sequence as Sends
from dataclasses import dataclass, field
from typing import Any

from engines.simulated import wire
from engines.simulated.batching import Engine, Profile
from engines.simulated.batching import Sequence as Slot
from engines.simulated.script import Script, Send, timeline

MS = 1_000_000
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]*)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_DEFAULT_TOKENS = 128


@dataclass(slots=True, eq=False)
class Stream:
    """One connection, and the answer that goes out over it."""

    sock: socket.socket
    received: bytes = b""
    request_id: str = ""
    keep_alive: bool = False
    begun: int = 0
    """When the request was complete, ns on the monotonic clock."""
    prompt: int = 0
    output: int = 0
    sends: Sends[Send] = ()
    next_send: int = 0
    sent_at: list[int] = field(default_factory=list)
    """Just before each send call, ns."""
    kinds: list[str] = field(default_factory=list)
    streamed: bool = True
    slot: Slot | None = None
    generation: int = 0
    """Counts answers, so that what was scheduled for an earlier one is not sent."""


class Server:
    """Serves on loopback until it is told to stop."""

    def __init__(
        self, script: Script, profile: Profile | None, *, time_factor: float, log: str | None, port: int
    ) -> None:
        self._script = script
        self._engine = None if profile is None else Engine(profile, time_factor)
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)  # noqa: FBT003
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._streams: dict[int, Stream] = {}
        self._heap: list[tuple[int, int, int, Stream]] = []
        self._count = 0
        self._counters = {"requests": 0, "succeeded": 0, "prompt_tokens": 0, "generated_tokens": 0}

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self, stop_fd: int) -> None:
        """Serve until ``stop_fd`` is readable or at its end."""
        self._epoll.register(stop_fd, select.EPOLLIN | select.EPOLLHUP)
        listener = self._listener.fileno()
        while True:
            for fd, _ in self._epoll.poll(self._patience(), 1024):
                if fd == stop_fd:
                    return
                if fd == listener:
                    self._accept()
                else:
                    self._readable(self._streams[fd])
            self._play()

    def _patience(self) -> float:
        """Return how long to wait for requests, s; -1 for ever. Fractions of a millisecond are rounded up by epoll."""
        dues = [self._heap[0][0]] if self._heap else []
        if self._engine is not None and self._engine.due is not None:
            dues.append(self._engine.due)
        return max(0.0, (min(dues) - time.monotonic_ns()) / 1e9) if dues else -1.0

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)  # noqa: FBT003
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams[sock.fileno()] = Stream(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _readable(self, stream: Stream) -> None:
        try:
            data = stream.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(stream)
            return
        stream.received += data
        end = stream.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = stream.received[: end + 2]
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(stream.received) >= whole:
            body, stream.received = stream.received[end + 4 : whole], stream.received[whole:]
            self._request(stream, head, body)

    def _request(self, stream: Stream, head: bytes, body: bytes) -> None:
        stream.begun = time.monotonic_ns()
        stream.keep_alive = _CLOSE.search(head) is None
        found = _REQUEST_ID.search(head)
        stream.request_id = found[1].decode() if found else ""
        stream.generation += 1
        if head.startswith(b"GET "):
            self._get(stream, head.split(b" ", 2)[1].decode())
        else:
            self._post(stream, body)

    def _get(self, stream: Stream, path: str) -> None:
        if path == "/metrics":
            self._whole(stream, 200, self._metrics(), "text/plain; version=0.0.4")
        elif path == "/v1/models":
            models = {"object": "list", "data": [{"id": wire.MODEL, "object": "model", "owned_by": "simulated"}]}
            self._whole(stream, 200, json.dumps(models).encode())
        elif path == "/health":
            self._whole(stream, 200, b"")
        else:
            self._whole(stream, 404, b'{"error":{"message":"no such route"}}')

    def _post(self, stream: Stream, body: bytes) -> None:
        try:
            asked: dict[str, Any] = json.loads(body)
            stream.prompt = sum(len(m["content"].split()) for m in asked["messages"])
            stream.output = int(asked.get("max_tokens") or _DEFAULT_TOKENS)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._whole(stream, 400, b'{"error":{"message":"not a chat request"}}')
            return
        if self._script.status != 200:  # noqa: PLR2004
            self._whole(stream, self._script.status, b'{"error":{"message":"scripted status"}}')
            return
        self._counters["requests"] += 1
        stream.sent_at, stream.kinds, stream.next_send = [], [], 0
        if self._engine is not None:
            stream.streamed = bool(asked.get("stream"))
            stream.slot = Slot(stream.prompt, stream.output, owner=stream)
            self._engine.submit(stream.slot, stream.begun)
        elif asked.get("stream"):
            stream.sends = self._timeline(stream)
            self._schedule(stream)
        else:
            last = self._timeline(stream)[-1].at
            body = wire.answer(200, wire.whole(stream.prompt, stream.output), keep_alive=stream.keep_alive)
            stream.sends = (Send(last, body, "t" * stream.output + "e"),)
            self._schedule(stream)

    def _timeline(self, stream: Stream) -> Sends[Send]:
        return timeline(self._script, stream.output, stream.prompt, stream.request_id)

    def _schedule(self, stream: Stream) -> None:
        self._count += 1
        due = stream.begun + stream.sends[stream.next_send].at
        heapq.heappush(self._heap, (due, self._count, stream.generation, stream))

    def _play(self) -> None:
        """Send all that is due."""
        heap = self._heap
        now = time.monotonic_ns()
        while heap and heap[0][0] <= now:
            _, _, generation, stream = heapq.heappop(heap)
            if generation == stream.generation:
                self._play_stream(stream, now)
        engine = self._engine
        while engine is not None and engine.due is not None and engine.due <= now:
            for slot in engine.end_step(engine.due):
                assert isinstance(slot.owner, Stream)
                self._token(slot.owner, slot)
            now = time.monotonic_ns()

    def _play_stream(self, stream: Stream, now: int) -> None:
        sends = stream.sends
        while stream.next_send < len(sends) and stream.begun + sends[stream.next_send].at <= now:
            send = sends[stream.next_send]
            stream.next_send += 1
            data = wire.head(keep_alive=stream.keep_alive) if send.kinds == "h" else send.data
            if not self._send(stream, data, send.kinds):
                return
        if stream.next_send < len(sends):
            self._schedule(stream)
        elif not self._script.never_close:
            self._end(stream)

    def _token(self, stream: Stream, slot: Slot) -> None:
        """Pass on a token of the modelled engine."""
        last = slot.produced == slot.output
        if stream.streamed:
            if slot.produced == 1:
                first = wire.head(keep_alive=stream.keep_alive)
                if not (self._send(stream, first, "h") and self._send(stream, wire.role(), "r")):
                    return
            if not self._send(stream, wire.tokens(1, "length" if last else None), "t"):
                return
            if last:
                end = wire.usage(slot.prompt, slot.output) + wire.done() + wire.LAST_CHUNK
                self._send(stream, end, "ude")
        elif last:
            body = wire.answer(200, wire.whole(slot.prompt, slot.output), keep_alive=stream.keep_alive)
            self._send(stream, body, "e")
        if last:
            self._end(stream)

    def _send(self, stream: Stream, data: bytes, kinds: str) -> bool:
        """Send at once, and note when; False if the client has gone."""
        at = time.monotonic_ns()
        try:
            sent = stream.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(stream)
            return False
        if sent < len(data):  # the client does not read: wait for it, as truth is what was sent
            stream.sock.setblocking(True)  # noqa: FBT003
            stream.sock.sendall(data[sent:])
            stream.sock.setblocking(False)  # noqa: FBT003
        stream.sent_at.append(at)
        stream.kinds.append(kinds)
        return True

    def _end(self, stream: Stream) -> None:
        """Log the answer, and close or wait for the next request."""
        self._counters["succeeded"] += 1
        self._counters["prompt_tokens"] += stream.prompt
        self._counters["generated_tokens"] += stream.output
        if self._log is not None:
            truth = {
                "request_id": stream.request_id,
                "received_ns": stream.begun,
                "sent_ns": stream.sent_at,
                "kinds": stream.kinds,
                "output_tokens": stream.output,
            }
            os.write(self._log, json.dumps(truth).encode() + b"\n")
        stream.slot = None
        if not stream.keep_alive:
            self._drop(stream)

    def _whole(self, stream: Stream, status: int, body: bytes, kind: str = "application/json") -> None:
        if self._send(stream, wire.answer(status, body, keep_alive=stream.keep_alive, kind=kind), "e"):
            stream.sent_at, stream.kinds = [], []
            if not stream.keep_alive:
                self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        """Close a connection, whatever it was doing."""
        stream.generation += 1
        if stream.slot is not None and self._engine is not None:
            self._engine.cancel(stream.slot)
        if stream.sock.fileno() >= 0:
            self._streams.pop(stream.sock.fileno(), None)
            stream.sock.close()

    def _metrics(self) -> bytes:
        """Return what is counted, under vLLM's names."""
        engine = self._engine
        running = len(engine.running) if engine else len(self._heap)
        waiting = len(engine.queue) if engine else 0
        used = engine.kv_used / engine.profile.kv_tokens if engine else 0.0
        label = f'{{model_name="{wire.MODEL}"}}'
        counters = self._counters
        lines = [
            f"vllm:num_requests_running{label} {running}",
            f"vllm:num_requests_waiting{label} {waiting}",
            f"vllm:kv_cache_usage_perc{label} {used}",
            f"vllm:prompt_tokens_total{label} {counters['prompt_tokens']}",
            f"vllm:generation_tokens_total{label} {counters['generated_tokens']}",
            f"vllm:request_success_total{label} {counters['succeeded']}",
        ]
        return ("\n".join(lines) + "\n").encode()

"""The server: one epoll loop over all connections, and a heap of what is to be sent when.

No turn of the loop is long, whoever else wants something: it handles a few events, makes a few sends, writes a line.
"""

import heapq
import select
import ssl
from time import monotonic_ns

from loadgen.engines.simulated import wire
from loadgen.engines.simulated.answer import Answer, Connection
from loadgen.engines.simulated.batching import Engine, Profile
from loadgen.engines.simulated.batching import Sequence as Slot
from loadgen.engines.simulated.channel import Channel
from loadgen.engines.simulated.journal import Ended, Journal
from loadgen.engines.simulated.listener import Listener
from loadgen.engines.simulated.plan import FD_BITS, plan_for
from loadgen.engines.simulated.prompt_cache import PromptCache
from loadgen.engines.simulated.request import BadRequest, Request, read_chat
from loadgen.engines.simulated.script import Script

_FD = (1 << FD_BITS) - 1
_EVENTS = 32
_SENDS = 64
"""In one turn of the loop at most."""
_SPIN_NS = 20_000
"""A wait below this is not worth a sleep, which takes as long."""
_CHAT = "/v1/chat/completions"
_OK = 200


class Server:
    """Serves on loopback until it is told to stop."""

    def __init__(
        self,
        script: Script,
        profile: Profile | None,
        *,
        time_factor: float = 1.0,
        log: str | None = None,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._engine = None if profile is None else Engine(profile, time_factor)
        modelled = Script(ttft_ms=0, itl_ms=0, no_usage=script.no_usage, status=script.status, model=script.model)
        self._script = script if profile is None else modelled
        self._journal = Journal(log)
        self._prompts = PromptCache(self._journal.metrics) if script.prefix_cache else None
        self._epoll = select.epoll()
        self._listener = Listener(port, self._epoll, tls)
        self._connections: dict[int, Connection] = {}
        self._playing: dict[int, Answer] = {}
        self._heap: list[int] = []
        self._running = 0
        self.url = self._listener.url

    def run(self, stop_fd: int) -> None:
        """Serve until ``stop_fd`` is readable or at its end."""
        self._epoll.register(stop_fd, select.EPOLLIN | select.EPOLLHUP)
        listener = self._listener.fd
        while True:
            for fd, event in self._wait():
                if fd == stop_fd:
                    self._journal.write_all()
                    return
                if fd == listener:
                    self._listener.accept(self._take)
                else:
                    self._handle(fd, event)
                self._play()
            self._play()
            self._step()

    def _wait(self) -> list[tuple[int, int]]:
        """Wait for events until something is due; epoll itself can only wait for whole milliseconds."""
        if self._journal:
            self._journal.write_one()
            return self._epoll.poll(0, _EVENTS)
        due = self._heap[0] >> FD_BITS if self._heap else None
        step = self._engine.due if self._engine else None
        if step is not None and (due is None or step < due):
            due = step
        if due is None:
            return self._epoll.poll(-1, _EVENTS)
        patience = due - monotonic_ns()
        if patience > _SPIN_NS:
            select.select([self._epoll], [], [], patience / 1e9)
        return self._epoll.poll(0, _EVENTS)

    def _play(self) -> None:
        """Send what is due: the hot path."""
        heap, playing = self._heap, self._playing
        limit = monotonic_ns() + 1 << FD_BITS
        left = _SENDS
        while heap and (key := heap[0]) < limit and left > 0:
            answer = playing.get(key & _FD)
            if answer is None or answer.key != key:
                heapq.heappop(heap)
                continue
            index, count, base, offsets = answer.next, answer.count, answer.base, answer.offsets
            try:
                # All of it that is late, one by one: twice as fast as going round, so that a lag is made up for.
                while key < limit and left > 0:
                    answer.send(answer.data[index])
                    index += 1
                    left -= 1
                    if index == count:
                        break
                    key = base + offsets[index]
            except OSError:
                heapq.heappop(heap)
                self._drop(answer.connection)
                continue
            answer.next = index
            if index < count:
                answer.key = key
                heapq.heapreplace(heap, key)
            else:
                heapq.heappop(heap)
                self._finish(answer)

    def _step(self) -> None:
        """End the steps of the modelled engine that are due, and send their tokens."""
        engine = self._engine
        while engine is not None and engine.due is not None and engine.due <= monotonic_ns():
            for slot in engine.end_step(engine.due):
                assert isinstance(slot.owner, Answer)
                self._token(slot.owner, slot)

    def _token(self, answer: Answer, slot: Slot) -> None:
        """Send what belongs to the token: head and role before the first one, the end behind the last one."""
        if answer.plan.chunks:
            first = answer.plan.chunks[0]
            until = answer.count if slot.produced == slot.output else first + slot.produced
        else:
            until = answer.count if slot.produced == slot.output else 0
        try:
            for index in range(answer.next, until):
                answer.send(answer.data[index])
        except OSError:
            self._drop(answer.connection)
            return
        answer.next = until
        if until == answer.count:
            self._finish(answer)

    def _take(self, channel: Channel) -> None:
        self._connections[channel.fd] = Connection(channel)

    def _handle(self, fd: int, event: int) -> None:
        connection = self._connections.get(fd)
        if connection is None:
            return
        try:
            if event & select.EPOLLOUT:
                connection.channel.flush()
                self._flushed(connection)
            if event & ~select.EPOLLOUT:
                connection.reader.received += connection.channel.receive()
                self._serve(connection)
        except OSError:
            self._drop(connection)

    def _flushed(self, connection: Connection) -> None:
        if connection.channel.waits:
            return
        if connection.closing:
            self._drop(connection)
        elif connection.answer is None:
            self._serve(connection)
        elif connection.answer.over:
            self._finish(connection.answer)

    def _serve(self, connection: Connection) -> None:
        """Answer the next request, if it is there and its turn has come; raises OSError."""
        reader = connection.reader
        if connection.closing:
            reader.received.clear()
        try:
            while connection.answer is None and not connection.channel.waits and (request := reader.next()):
                self._request(connection, request)
        except BadRequest as e:
            self._whole(connection, wire.answer(e.status, wire.error(e.status, str(e)), keep_alive=False))
            return
        if reader.expects:
            reader.expects = False
            connection.channel.send_beside(wire.CONTINUE)

    def _request(self, connection: Connection, request: Request) -> None:
        begun = monotonic_ns()
        if (request.method, request.path) == ("POST", _CHAT):
            self._chat(connection, request, begun)
            return
        status, body, kind = self._route(request)
        data = wire.answer(status, body, keep_alive=request.keep_alive, kind=kind)
        if request.method == "HEAD":
            data = data[: len(data) - len(body)]
        self._whole(connection, data, keep_alive=request.keep_alive)

    def _route(self, request: Request) -> tuple[int, bytes, str]:
        """Return status, body and content type of an answer that is no chat."""
        kind = "application/json"
        if request.method in {"GET", "HEAD"}:
            if request.path == "/health":
                return 200, b"", kind
            if request.path == "/v1/models":
                return 200, wire.models(self._script.model), kind
            if request.path == "/metrics":
                return 200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8"
        return 404, wire.error(404, "no such route"), kind

    def _chat(self, connection: Connection, request: Request, begun: int) -> None:
        try:
            chat = read_chat(request.body)
            plan = plan_for(
                self._script, chat, request.request_id or request.body.decode(), keep_alive=request.keep_alive
            )
            answer = Answer(connection, request, chat, plan, begun)
            cached = self._prompts is not None and self._prompts.look_up(request.body, chat.prompt)
            if self._engine is not None and self._script.status == _OK:
                slot = Slot(chat.prompt, chat.output, cached=cached, owner=answer)
                self._engine.submit(slot, begun)
                answer.slot = slot
        except ValueError as e:
            data = wire.answer(400, wire.error(400, str(e)), keep_alive=request.keep_alive)
            self._whole(connection, data, keep_alive=request.keep_alive)
            return
        connection.answer = answer
        self._running += 1
        if answer.slot is None:
            fd = connection.channel.fd
            answer.key = answer.base + plan.offsets[0]
            self._playing[fd] = answer
            heapq.heappush(self._heap, answer.key)

    def _whole(self, connection: Connection, data: bytes, *, keep_alive: bool = False) -> None:
        """Send an answer that has no times; raises OSError."""
        connection.channel.send_beside(data)
        connection.closing = not keep_alive
        if connection.closing and not connection.channel.waits:
            self._drop(connection)

    def _finish(self, answer: Answer) -> None:
        """Behind the last send: note the answer, and close or take the next request, unless the script says not to."""
        connection, last = answer.connection, answer.plan.kinds[-1]
        if "x" in last:
            connection.channel.reset()
        elif connection.channel.waits:
            answer.over = True
            return
        complete = answer.plan.tokens[-1] == answer.chat.output
        self._note(answer, "length" if complete else "error")
        if "e" in last and answer.keep_alive:
            connection.answer = None
            try:
                self._serve(connection)
            except OSError:
                self._drop(connection)
        elif "e" in last or "x" in last:
            self._drop(connection)

    def _note(self, answer: Answer, reason: str) -> None:
        """Count the answer as ended and leave it to the journal, once."""
        if answer.noted:
            return
        answer.noted = True
        self._running -= 1
        self._playing.pop(answer.connection.channel.fd, None)
        if answer.slot is not None and self._engine is not None:
            self._engine.cancel(answer.slot)
        counted = reason if self._script.status == _OK else None
        self._journal.note(Ended(answer.request_id, answer.begun, answer.times, answer.plan, answer.chat, counted))

    def _drop(self, connection: Connection) -> None:
        """Close a connection, whatever it was doing."""
        if self._connections.pop(connection.channel.fd, None) is None:
            return
        if connection.answer is not None:
            self._note(connection.answer, "abort")
        connection.channel.close()
        self._listener.resume()

    def _metrics(self) -> bytes:
        """Return what is counted, under vLLM's names."""
        self._journal.write_all()
        engine = self._engine
        if engine is None:
            return self._journal.metrics.render(self._running, 0, 0.0)
        used = engine.kv_used / engine.profile.kv_tokens
        return self._journal.metrics.render(len(engine.running), len(engine.queue), used)

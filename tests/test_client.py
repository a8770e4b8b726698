"""The client against real servers on real sockets: outcomes, times, connections."""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
import trustme
from asking import question
from serving import (
    DONE,
    HANG_UP,
    LAST_CHUNK,
    SSE_HEAD,
    ScriptServer,
    Step,
    answer,
    chunk,
    event,
    response,
    serving,
    stream,
    token,
    usage,
)

from loadgen import metrics
from loadgen.clock import MS, Ns, now
from loadgen.engines.catalogue import ENGINES
from loadgen.protocol.client import Client, Settings
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.wire.connection import Connection, new_socket
from loadgen.wire.fault import WireError
from loadgen.wire.get import get
from loadgen.wire.read_loop import ReadLoop
from loadgen.wire.response_reader import ResponseReader, Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import PollWaiter

CLOCKS = 1 * MS
"""How far the kernel's clock of receive stamps and ours may be apart."""

TIMEOUTS = Timeouts(connect=30, first_byte=30, idle=30, total=60)


@pytest.fixture(scope="module", autouse=True)
def kernel_stamping() -> Iterator[None]:
    """Keep the kernel's receive stamps switched on."""
    sock = new_socket()
    time.sleep(0.05)
    yield
    sock.close()


def settings_for(server: ScriptServer | str, engine: str = "endpoint") -> Settings:
    url = server if isinstance(server, str) else server.url
    return Settings(parse_target(url), ENGINES[engine].api, TIMEOUTS)


def ask(client: Client, *, streamed: bool = True, request_id: str = "r1") -> RequestRecord:
    return client.send(question(id=request_id, stream=streamed)).record


def outcome(settings: Settings) -> tuple[Outcome, str | None]:
    record = ask(Client(settings, PollWaiter()))
    return record.outcome, record.error


def assert_came(times: Sequence[int | None] | None, sent: Sequence[int], first: int) -> None:
    """Each came after its send, the ``first`` and following ones, and before the next: however slow the machine is."""
    assert times is not None
    for number, at in enumerate(times, start=first):
        assert at is not None
        assert sent[number] - CLOCKS <= at <= sent[number + 1] + CLOCKS


def test_times_are_those_at_which_the_server_sent() -> None:
    events = [event('{"choices":[{"delta":{"role":"assistant","content":""}}]}'), *[token("a")] * 5]
    steps = stream(*events, token("b", "length"), usage(6), DONE, pause=0.02, first=0.05)
    with serving([*steps, (0.02, b"")]) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
        sent = server.sends(12)
    assert record.outcome is Outcome.OK
    assert record.stamp == "kernel"
    assert (record.output_tokens, record.counted_by, record.chunks) == (6, CountedBy.USAGE, 6)
    # Sends: head, role, six tokens, usage, [DONE], last chunk, and nothing.
    assert_came([record.first_byte_ns], sent, 0)
    assert_came([record.first_token_ns], sent, 2)
    assert_came([record.last_token_ns], sent, 7)
    assert_came([record.end_ns], sent, 10)
    assert record.chunk_ns is not None
    assert len(record.chunk_ns) == 6
    assert_came(record.chunk_ns, sent, 2)
    assert metrics.tpot_ms(record) == (record.chunk_ns[5] - record.chunk_ns[0]) / 5 / MS


def test_times_of_a_client_that_reads_late_are_still_the_servers() -> None:
    delivered, was_read = threading.Event(), threading.Event()

    class Sleepy(PollWaiter):
        def receive(self, reader: ResponseReader) -> None:
            loop = ReadLoop(select.epoll())
            loop.add(reader, lambda: None)
            while not reader.over:
                delivered.wait(60)
                delivered.clear()
                time.sleep(0.04)
                loop.poll()
                was_read.set()

    def one_at_a_time(_number: int, _request: object) -> Iterator[Step]:
        for step in [*stream(token("a"), token("b", "length"), usage(2), DONE), (0.0, b"")]:
            yield step
            delivered.set()
            was_read.wait(60)
            was_read.clear()

    with serving(one_at_a_time) as server:
        record = ask(Client(settings_for(server), Sleepy()))
        sent = server.sends(6)
    assert_came(record.chunk_ns, sent, 1)
    assert record.read_delay_ns is not None
    assert record.read_delay_ns > 30 * MS


def test_the_end_is_that_of_the_response_not_of_a_late_close() -> None:
    steps = answer(3)
    with serving([*steps, (0.1, b"")]) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
        assert record.outcome is Outcome.OK
        assert_came([record.end_ns], server.sends(len(steps) + 1), len(steps) - 1)


class LateOnce(PollWaiter):
    """Reads for the first time when something else is over."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait

    def receive(self, reader: ResponseReader) -> None:
        self.wait()
        super().receive(reader)


def test_a_close_that_comes_before_the_read_makes_the_end_an_interval() -> None:
    with serving(answer(3), close_after=0.1) as server:
        record = ask(Client(settings_for(server), LateOnce(partial(server.closed.wait, 60))))
        true_end = server.sent_at[0][-1]
    assert record.outcome is Outcome.OK
    assert record.end_ns is not None
    assert record.end_interval_ns is not None
    assert record.end_ns - record.end_interval_ns <= true_end <= record.end_ns + CLOCKS
    assert record.end_interval_ns > 50 * MS, "the stamp may be that of the connection's end"


def test_a_token_with_the_end_of_the_response_behind_it_arrived_in_an_interval() -> None:
    said = [(0.0, SSE_HEAD), (0.0, chunk(token("a", "stop")) + chunk(usage(1)) + chunk(DONE))]
    with serving([*said, (0.1, LAST_CHUNK)]) as server:
        record = ask(Client(settings_for(server), LateOnce(partial(server.sends, 3))))
        true_token = server.sent_at[0][1]
    assert record.last_token_ns is not None
    assert record.last_token_interval_ns is not None
    assert record.last_token_ns - record.last_token_interval_ns <= true_token
    assert record.last_token_interval_ns > 50 * MS


def test_an_answer_is_over_with_done_though_its_framing_never_ends() -> None:
    short = replace(TIMEOUTS, idle=1)
    steps = [(0.0, SSE_HEAD + chunk(token("a", "stop"))), (0.02, chunk(DONE)), (0.1, b"")]
    for then in (0.0, 60.0):  # the server closes late, or not at all
        with serving(steps, close_after=then) as server:
            record = ask(Client(replace(settings_for(server), timeouts=short), PollWaiter()))
            assert record.outcome is Outcome.OK
            assert_came([record.end_ns], server.sends(3), 1)


def test_a_queue_behind_the_head_is_waited_in_as_long_as_for_a_first_byte() -> None:
    timeouts = replace(TIMEOUTS, idle=0.5)
    steps = answer(2)
    with serving([steps[0], (1.5, steps[1][1] + b"".join(data for _, data in steps[2:]))]) as server:
        assert outcome(replace(settings_for(server), timeouts=timeouts)) == (Outcome.OK, None)


def test_a_stream_without_framing_ends_with_done_not_with_a_late_close() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    with serving([(0, head), (0, token("a", "stop")), (0.02, DONE), (0.2, b"")]) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
        assert record.outcome is Outcome.OK
        assert_came([record.end_ns], server.sends(4), 2)


def test_an_answer_that_is_not_streamed_has_a_round_trip_and_no_first_token() -> None:
    body = b'{"choices":[{"message":{"content":"Hi there"},"finish_reason":"stop"}],"usage":{"completion_tokens":2}}'
    with serving([(0.05, response(body))]) as server:
        record = ask(Client(settings_for(server), PollWaiter()), streamed=False)
    assert (record.outcome, record.output_tokens, record.output_characters) == (Outcome.OK, 2, 8)
    assert (record.first_token_ns, record.chunk_ns) == (None, None)
    assert 50 <= (metrics.e2e_ms(record) or 0) < 150


def test_the_request_is_what_the_record_says() -> None:
    with serving(answer()) as server:
        settings = replace(settings_for(server.url + "/some/path/v1/"), headers={"Authorization": "Bearer sk-secret"})
        ask(Client(settings, PollWaiter()), request_id="run-000001")
    (request,) = server.requests
    assert request.path == "/some/path/v1/chat/completions"
    assert request.headers["x-request-id"] == "run-000001"
    assert request.headers["authorization"] == "Bearer sk-secret"
    assert request.headers["connection"] == "close"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("length", [0, 480, 490, 495, 500])
def test_a_secret_is_not_recorded_in_part_either(length: int) -> None:
    body = b"x" * length + b"sk-secret" + b"y" * 100
    with serving([(0, response(body, status="400 Bad Request", kind="text/plain"))]) as server:
        record = ask(Client(replace(settings_for(server), secrets=("sk-secret",)), PollWaiter()))
    assert "sk-" not in (record.error or "")


def test_heartbeats_and_odd_numbers_are_no_fault() -> None:
    counts = event('{"choices":[],"usage":{"prompt_tokens":7.0,"completion_tokens":2.0}}')
    nothing = event('{"choices":[],"usage":{"prompt_tokens":null,"completion_tokens":null}}')
    with serving(stream(b"data:\n\n", token("a"), b": ping\n\n", token("b", "stop"), counts, nothing, DONE)) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
    assert (record.outcome, record.output_tokens, record.input_tokens) == (Outcome.OK, 2, 7)


def test_a_count_of_zero_for_an_answer_with_text_is_no_count() -> None:
    with serving(stream(token("a"), token("b", "stop"), usage(0), DONE)) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
    assert (record.output_tokens, record.counted_by) == (2, CountedBy.CHUNKS)


def test_a_secret_that_the_server_repeats_is_not_recorded() -> None:
    body = b'{"error":{"message":"Incorrect API key provided: sk-secret."}}'
    with serving([(0, response(body, status="401 Unauthorized"))]) as server:
        record = ask(Client(replace(settings_for(server), secrets=("sk-secret",)), PollWaiter()))
    assert record.error == "HTTP 401: Incorrect API key provided: [key]."


@pytest.mark.parametrize(
    ("steps", "expected", "words"),
    [
        ([(0, response(b"{}", status="302 Found"))], Outcome.HTTP_3XX, "HTTP 302"),
        ([(0, response(b'{"detail":"no"}', status="422 X"))], Outcome.HTTP_4XX, "HTTP 422: no"),
        ([(0, response(b"", status="429 X"))], Outcome.RATE_LIMITED, "HTTP 429"),
        ([(0, response(b"oops", status="503 X"))], Outcome.HTTP_5XX, "HTTP 503: oops"),
        ([], Outcome.BROKEN_STREAM, "without an answer"),
        ([(0, SSE_HEAD + chunk(token("a")))], Outcome.BROKEN_STREAM, "in mid-answer"),
        ([(0, SSE_HEAD + chunk(token("a")) + LAST_CHUNK)], Outcome.BROKEN_STREAM, "without a finish reason"),
        (stream(token("a"), event('{"error":{"message":"out of memory"}}')), Outcome.BROKEN_STREAM, "out of memory"),
        ([(0, b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")], Outcome.BAD_PROTOCOL, "101"),
        (stream(event('{"error":' + "[" * 100_000)), Outcome.BAD_PROTOCOL, ""),
        (
            [(0, SSE_HEAD + chunk(b'event: error\ndata: {"message":"OOM"}\n\n') + chunk(DONE))],
            Outcome.BROKEN_STREAM,
            "OOM",
        ),
        (stream(b"event: ping\n\n"), Outcome.EMPTY, "without a single token"),
        ([(0, b"SSH-2.0-OpenSSH_9.2\r\n")], Outcome.BAD_PROTOCOL, "not HTTP"),
        (stream(event("{nonsense"), DONE), Outcome.BAD_PROTOCOL, "not a chat completion"),
        (stream(event('{"choices":"x"}'), DONE), Outcome.BAD_PROTOCOL, "not a chat completion"),
        ([(0, response(b"<html>hello</html>", kind="text/html"))], Outcome.BAD_PROTOCOL, "not server-sent events"),
        (stream(), Outcome.EMPTY, "without a single token"),
        (stream(DONE), Outcome.EMPTY, "without a single token"),
        ([(0, response(b"", kind="text/event-stream"))], Outcome.EMPTY, "without a single token"),
    ],
)
def test_a_fault_of_the_server_becomes_its_outcome(
    steps: list[tuple[float, bytes]], expected: Outcome, words: str
) -> None:
    with serving(steps) as server:
        found, error = outcome(settings_for(server))
    assert found is expected
    assert words in (error or "")


def test_an_answer_whose_connection_breaks_behind_done_is_complete() -> None:
    with serving([(0, SSE_HEAD + chunk(token("a", "stop")) + chunk(DONE))]) as server:
        assert outcome(settings_for(server)) == (Outcome.OK, None)


def test_an_answer_of_tokens_without_text_is_no_empty_one() -> None:
    events = [event('{"choices":[{"delta":{},"finish_reason":"stop"}]}'), usage(1), DONE]
    with serving(stream(*events)) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
    assert (record.outcome, record.output_tokens, record.first_token_ns) == (Outcome.OK, 1, None)


def test_what_a_broken_answer_had_is_kept() -> None:
    with serving([(0, SSE_HEAD), (0.01, chunk(token("a"))), (0.01, chunk(token("b")))]) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
    assert record.outcome is Outcome.BROKEN_STREAM
    assert (record.chunks, record.output_tokens, record.http_status) == (2, None, 200)
    assert record.first_token_ns is not None


def test_each_timeout_has_its_own_outcome() -> None:
    with serving([(60, b"")]) as silent:
        short = replace(TIMEOUTS, first_byte=0.2)
        assert outcome(replace(settings_for(silent), timeouts=short))[0] is Outcome.FIRST_BYTE_TIMEOUT
    with serving([(0, SSE_HEAD + chunk(token("a"))), (60, b"")]) as stalled:
        short = replace(TIMEOUTS, idle=0.2)
        assert outcome(replace(settings_for(stalled), timeouts=short))[0] is Outcome.IDLE_TIMEOUT
    with serving(stream(*[token("a")] * 600, pause=0.1)) as endless:
        short = replace(TIMEOUTS, total=0.5)
        assert outcome(replace(settings_for(endless), timeouts=short))[0] is Outcome.TOTAL_TIMEOUT


def test_a_stalled_answer_keeps_the_tokens_that_came_before() -> None:
    short = replace(TIMEOUTS, idle=0.2)
    with serving([(0, SSE_HEAD), (0.01, chunk(token("a"))), (60, b"")]) as stalled:
        record = ask(Client(replace(settings_for(stalled), timeouts=short), PollWaiter()))
        sent = stalled.sent_at[0][1]
    assert record.end_ns is not None
    assert record.first_token_ns is not None
    assert sent - CLOCKS <= record.first_token_ns
    assert record.end_ns - record.first_token_ns >= 150 * MS


def test_a_port_that_nobody_listens_on_is_refused() -> None:
    assert outcome(settings_for("http://127.0.0.1:1"))[0] is Outcome.REFUSED


def test_a_name_that_does_not_resolve_is_a_dns_fault() -> None:
    assert outcome(settings_for("http://nowhere.invalid"))[0] is Outcome.DNS


def test_a_listener_that_accepts_nobody_is_a_connect_timeout() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        settings = replace(settings_for(f"http://127.0.0.1:{port}"), timeouts=replace(TIMEOUTS, connect=0.3))
        assert outcome(settings)[0] is Outcome.CONNECT_TIMEOUT
        for filler in fillers:
            filler.close()


def test_a_connection_is_opened_for_each_request_by_default() -> None:
    with serving(answer(), keep_open=True) as server:
        client = Client(settings_for(server), PollWaiter())
        records = [ask(client) for _ in range(3)]
    assert [r.connection for r in records] == ["new"] * 3
    assert server.connections == 3
    assert all((metrics.connect_ms(r) or 0) > 0 for r in records)


def test_keep_alive_reuses_the_connection() -> None:
    with serving(answer(), keep_open=True) as server:
        client = Client(replace(settings_for(server), keep_alive=True), PollWaiter())
        records = [ask(client) for _ in range(3)]
        client.close()
    assert [r.connection for r in records] == ["new", "reused", "reused"]
    assert server.connections == 1
    assert records[1].connect_ns is None


def test_a_kept_connection_that_went_stale_is_replaced_once() -> None:
    with serving(answer(), keep_open=False) as server:
        client = Client(replace(settings_for(server), keep_alive=True), PollWaiter())
        first = ask(client)
        server.closed.wait(60)
        second = ask(client)
        client.close()
    assert (first.connection, second.connection) == ("new", "replaced")
    assert second.outcome is Outcome.OK


def test_what_nobody_asked_for_is_not_taken_for_an_answer() -> None:
    def script(number: int, _request: object) -> list[tuple[float, bytes]]:
        late = response(b"", status="408 Request Timeout") if number == 0 else b""
        return [*answer(), (0.02, late)]

    with serving(script, keep_open=True) as server:
        client = Client(replace(settings_for(server), keep_alive=True), PollWaiter())
        assert ask(client).outcome is Outcome.OK
        server.sends(len(script(0, None)))
        second = ask(client)
        client.close()
    assert (second.outcome, second.connection) == (Outcome.OK, "replaced")


def test_bytes_behind_an_answer_end_its_connection() -> None:
    def script(number: int, _request: object) -> list[tuple[float, bytes]]:
        steps = answer(2)
        return [*steps[:-1], (0, steps[-1][1] + response(b"{}"))] if number == 0 else steps

    with serving(script, keep_open=True) as server:
        client = Client(replace(settings_for(server), keep_alive=True), PollWaiter())
        assert [ask(client).connection for _ in range(2)] == ["new", "new"]
        client.close()


def test_a_kept_connection_that_breaks_in_mid_answer_is_not_tried_again() -> None:
    def script(number: int, _request: object) -> list[tuple[float, bytes]]:
        if number == 0:
            return answer()
        return [(0, SSE_HEAD + chunk(token("a"))), (0, HANG_UP)]

    with serving(script, keep_open=True) as server:
        client = Client(replace(settings_for(server), keep_alive=True), PollWaiter())
        assert ask(client).outcome is Outcome.OK
        second = ask(client)
    assert (second.connection, second.outcome) == ("reused", Outcome.BROKEN_STREAM)
    assert len(server.requests) == 2


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_https_has_the_kernels_times_too(authority: trustme.CA, server_context: ssl.SSLContext) -> None:
    with serving(answer(5, pause=0.02), context=server_context) as server:
        settings = settings_for(server)
        assert settings.target.tls is not None
        authority.configure_trust(settings.target.tls)
        record = ask(Client(settings, PollWaiter()))
        sent = server.sent_at[0]
    assert (record.outcome, record.output_tokens, record.stamp) == (Outcome.OK, 5, "kernel")
    assert_came(record.chunk_ns, sent, 1)


def test_a_certificate_that_is_not_trusted_is_a_tls_fault(server_context: ssl.SSLContext) -> None:
    with serving(answer(), context=server_context) as server:
        found, error = outcome(settings_for(server))
        assert (found, "not trusted" in (error or "")) == (Outcome.TLS, True)
        trusting = replace(settings_for(server), target=parse_target(server.url, verify=False))
        assert outcome(trusting)[0] is Outcome.OK


def test_without_kernel_stamps_no_time_is_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "other")
    with serving(answer(3, pause=0.01)) as server:
        record = ask(Client(settings_for(server), PollWaiter()))
    assert (record.stamp, record.read_delay_ns) == ("user", None)
    assert record.first_token_interval_ns
    assert record.end_interval_ns is not None


def test_a_request_with_a_time_of_its_own_finds_its_connection_open_and_does_not_leave_early() -> None:
    with serving(answer(2)) as server:
        client = Client(settings_for(server), PollWaiter())
        not_before = Ns(now() + 1000 * MS)
        record = client.send(question(not_before=not_before)).record
    assert record.outcome is Outcome.OK
    assert record.connected_ns is not None
    assert record.sent_ns is not None
    assert record.connected_ns < not_before <= record.sent_ns


def test_an_error_of_ours_while_reading_is_raised_where_the_answer_is_waited_for() -> None:
    def fail(_data: bytes) -> object:
        raise ZeroDivisionError

    with serving(answer(3, pause=0.03)) as server:
        settings = settings_for(server)
        connection = Connection(settings.target, PollWaiter())
        due = Ns(now() + 30_000 * MS)
        connection.open(due)
        connection.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", due)
        with pytest.raises(ZeroDivisionError):
            connection.receive(Transcript(), TIMEOUTS, fail, fail)
        connection.close()


def test_a_connection_that_is_closed_before_anything_is_known_of_it_is_a_fault_of_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            sock, _ = listener.accept()
            sock.recv(65536)
            sock.close()

        threading.Thread(target=hang_up, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(WireError) as failed:
            get(parse_target(url), "/v1/models", PollWaiter(), timeout=2)
    assert failed.value.outcome is Outcome.BROKEN_STREAM

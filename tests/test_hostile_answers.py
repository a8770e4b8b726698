"""Servers that answer what no server should: each answer becomes a record that says so, and no time is lost on it."""

import base64
import os
import resource
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import msgspec
import pytest
import trustme
from asking import question
from conftest import Locust
from serving import (
    DONE,
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

from loadgen.engines.catalogue import ENGINES
from loadgen.protocol.client import Client, Settings
from loadgen.record import CountedBy, Outcome, RequestRecord, to_line
from loadgen.scenario import LIMIT_OPTIONS
from loadgen.wire.fault import WireError
from loadgen.wire.get import Reply, get
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import Address, PollWaiter

PATIENT = Timeouts(connect=30, first_byte=30, idle=30, total=60)
"""Nothing here may depend on how fast the machine is: these are only there so that no test hangs."""

KEY = "sk-proj-0123456789abcdef"


def settings_for(server: ScriptServer | str, engine: str = "endpoint", timeouts: Timeouts = PATIENT) -> Settings:
    url = server if isinstance(server, str) else server.url
    return Settings(
        parse_target(url, verify=False), ENGINES[engine].api, timeouts, secrets=(KEY,), limit_options=LIMIT_OPTIONS
    )


def ask(
    settings: Settings, waiter: PollWaiter | None = None, *, lazy: bool = False, streamed: bool = True
) -> RequestRecord:
    return Client(settings, waiter or PollWaiter()).send(question(stream=streamed, lazy=lazy)).record


# Numbers and nesting.

ABSURD = ["-1", "1e308", "1e999", "-1e999", "18446744073709551616", "9" * 400, "9" * 5000, "7.5", '"x"', "true", "[7]"]


@pytest.mark.parametrize("number", ABSURD)
def test_a_count_that_cannot_be_is_taken_for_missing_and_reported(number: str) -> None:
    told = event(f'{{"choices":[],"usage":{{"prompt_tokens":{number},"completion_tokens":{number}}}}}')
    with serving(stream(token("a"), token("b", "stop"), told, DONE)) as server:
        record = ask(settings_for(server))
    assert (record.outcome, record.output_tokens, record.counted_by) == (Outcome.OK, 2, CountedBy.CHUNKS)
    assert (record.input_tokens, record.usage_tokens) == (None, None)
    assert record.rejected_usage is not None
    assert record.rejected_usage.startswith(f"prompt_tokens={number}"[:40])
    assert len(record.rejected_usage) <= 2048


def test_a_native_count_below_nothing_is_taken_for_missing() -> None:
    said = (
        '{"token":{"id":1,"text":"a"},"generated_text":"a","details":{"finish_reason":"length","generated_tokens":-5}}'
    )
    with serving(stream(event(said))) as server:
        record = ask(settings_for(server, "tgi-1.0.1"))
    assert (record.outcome, record.output_tokens, record.usage_tokens) == (Outcome.OK, 1, None)
    assert record.rejected_usage == "generated_tokens=-5"


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error"])
@pytest.mark.parametrize("depth", [2_000, 200_000])
def test_an_error_nested_without_end_has_the_outcome_of_its_status(status: str, depth: int) -> None:
    with serving([(0, response(b'{"error":' + b"[" * depth + b"]" * depth + b"}", status=status))]) as server:
        record = ask(settings_for(server))
    assert record.outcome is (Outcome.HTTP_4XX if status.startswith("4") else Outcome.HTTP_5XX)
    assert (record.error or "").startswith(f"HTTP {status[:3]}: ")


def test_models_nested_without_end_are_a_mistake_that_is_told(locust: Locust) -> None:
    models = response(b'{"data":' + b"[" * 100_000)
    with serving(answer(), models=models) as server:
        run = locust("--host", server.url)
    assert run.status == 2
    assert "--model is needed" in run.err
    assert "Traceback" not in run.err + run.out


def test_a_run_on_absurd_counts_ends_and_says_so(locust: Locust) -> None:
    told = event('{"choices":[],"usage":{"prompt_tokens":1e308,"completion_tokens":36893488147419103232}}')
    with serving(stream(token("a"), token("b", "length"), told, DONE)) as server:
        run = locust("--host", server.url, "--sample", "10", "--metrics", "127.0.0.1:0")
    run.assert_ended_well()
    assert "Traceback" not in run.err
    (check,) = (c for c in run.summary["verdict"]["checks"] if c["name"] == "token counts")
    assert check["status"] == "warn"
    assert "10 answers with usage that cannot be, such as prompt_tokens=1e308" in check["value"]


# Caps.


def test_an_endless_answer_is_given_up_and_its_bytes_are_not_kept() -> None:
    line = token("x" * 60_000)

    def endless() -> Iterator[Step]:
        yield 0, SSE_HEAD
        while True:
            yield 0, chunk(line)

    class Endless(Sequence[Step]):  # played step by step until the client hangs up
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: object) -> Step:  # type: ignore[override]
            raise IndexError

        def __iter__(self) -> Iterator[Step]:
            return endless()

    for lazy in (False, True):
        with serving(lambda _number, _request: Endless()) as server:
            record = ask(settings_for(server), lazy=lazy)
        assert record.outcome is Outcome.BAD_PROTOCOL
        assert record.error == "the answer is longer than 64 MiB: given up"
        assert len(to_line(record)) < 4_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1_000_000, "kB: a few times the limit, not the answer"


def test_a_head_without_end_is_not_http() -> None:
    with serving([(0, b"HTTP/1.1 200 OK\r\n"), (0, b"X-Filler: " + b"y" * 600_000)]) as server:
        record = ask(settings_for(server))
    assert (record.outcome, record.error) == (
        Outcome.BAD_PROTOCOL,
        "the head of the response is longer than 256 KiB",
    )


def test_informational_heads_without_end_are_not_http() -> None:
    with serving([(0, b"HTTP/1.1 100 Continue\r\n\r\n" * 30_000)]) as server:
        assert ask(settings_for(server)).outcome is Outcome.BAD_PROTOCOL


def test_no_text_of_a_server_is_kept_beyond_two_kibibytes() -> None:
    long = "é" * 1_000_000
    with serving(stream(token("a"), token("b", long), DONE)) as server:
        record = ask(settings_for(server))
    assert record.finish_reason is not None
    assert record.finish_reason.endswith(" ...")
    assert len(record.finish_reason.encode()) <= 2048
    with serving([(0, response(long.encode(), status="500 X", kind="text/plain"))]) as server:
        assert len(to_line(ask(settings_for(server)))) < 4_000


def test_a_page_or_bytes_in_place_of_an_answer_are_one_line() -> None:
    page = b"<!DOCTYPE html>\n<html><head>\n<title>502 Bad\n Gateway</title></head>\n<body>" + b"<p>x</p>\n" * 9_000
    for status in ("200 OK", "502 Bad Gateway"):
        with serving([(0, response(page, status=status, kind="text/html; charset=utf-8"))]) as server:
            error = ask(settings_for(server)).error or ""
        assert error.endswith("an HTML page titled '502 Bad Gateway' (text/html)")
    binary = bytes(range(256)) * 300
    with serving([(0, response(binary, status="500 X", kind="application/grpc"))]) as server:
        assert ask(settings_for(server)).error == "HTTP 500: 76,800 bytes that are not text (application/grpc)"
    with serving([(0, response(b"too long\n\tby\n  far", status="400 X", kind="text/plain"))]) as server:
        assert ask(settings_for(server)).error == "HTTP 400: too long by far"


# What makes an answer a success.


@pytest.mark.parametrize("reason", ["error", "abort"])
@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_the_engine_broke_off_is_none(reason: str, *, streamed: bool) -> None:
    whole = {"choices": [{"message": {"content": "a b"}, "finish_reason": reason}], "usage": {"completion_tokens": 2}}
    steps = stream(token("a"), token("b", reason), usage(2), DONE)
    with serving(steps if streamed else [(0, response(msgspec.json.encode(whole)))]) as server:
        record = ask(settings_for(server), streamed=streamed)
    assert record.outcome is Outcome.BROKEN_STREAM
    assert record.error == f"the answer ended with finish_reason '{reason}'"
    assert record.output_tokens is None


def test_an_error_beside_a_token_is_an_error() -> None:
    both = event('{"choices":[{"delta":{"content":"a"}}],"error":{"message":"provider gone"}}')
    with serving(stream(token("a"), both, token("b", "stop"), usage(3), DONE)) as server:
        record = ask(settings_for(server))
    assert (record.outcome, record.error) == (Outcome.BROKEN_STREAM, "error in the answer: provider gone")


def test_an_unusual_reason_to_end_is_shown(locust: Locust) -> None:
    with serving(stream(token("a"), token("b", "content_filter"), usage(2), DONE)) as server:
        run = locust("--host", server.url, "--sample", "10")
    (check,) = (c for c in run.summary["verdict"]["checks"] if c["name"] == "output lengths")
    assert (check["status"], check["value"]) == ("warn", "content_filter 100 %; 10 answers ended unusually")


MIDDLES = {
    "an error": event('{"error":{"message":"out of memory"}}'),
    "an error by its name": b'event: error\ndata: {"message":"out of memory"}\n\n',
    "an error next to a token": event('{"choices":[{"delta":{"content":"x"}}],"error":{"message":"boom"}}'),
    "garbage": event("nonsense"),
    "garbage in braces": event('{"choices":[{"index":0,"delta":{"content":"a" nonsense},"finish_reason":null}]}'),
    "a field of another type": event('{"choices":[{"index":0,"delta":{"content":7},"finish_reason":null}]}'),
    "a page": b"<html>502</html>\n\n",
    "bytes that are no text": event(b'{"choices":[{"index":0,"delta":{"content":"\xff"},"finish_reason":null}]}'),
    "an abort": token("x", "abort"),
    "a comment": b": ping\n\n",
    "a blank event": b"data:\n\n",
    "three line ends": token("x") + b"\n",
    "reasoning": event('{"choices":[{"delta":{"reasoning_content":"hm"}}]}'),
    "nothing unusual": token("x"),
}


@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES)
def test_a_stream_has_the_same_outcome_however_it_was_read(middle: bytes) -> None:
    tokens = [token("a")] * 40
    steps = stream(*tokens, middle, *tokens, token("b", "stop"), usage(80), DONE)
    with serving(steps) as server:
        eager = ask(settings_for(server))
        lazy = ask(settings_for(server), lazy=True)
    assert lazy.lazy
    for name in ("outcome", "error", "output_tokens", "counted_by", "finish_reason", "usage_tokens"):
        assert getattr(lazy, name) == getattr(eager, name), name
    assert lazy.chunk_ns is None


def test_what_came_before_it_was_asked_for_is_no_answer() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    early = b"".join(data for _, data in answer(2))

    def speak_first() -> None:
        sock, _ = listener.accept()
        with sock, suppress(OSError):
            sock.sendall(early)
            said.set()
            while sock.recv(65536):
                pass

    class SendsLater(PollWaiter):
        """Has a connection wait until the server has spoken, as a user's turn may."""

        def sleep_until(self, at: int) -> None:  # noqa: ARG002
            assert said.wait(30)

    said = threading.Event()
    threading.Thread(target=speak_first, daemon=True).start()
    settings = settings_for(f"http://127.0.0.1:{listener.getsockname()[1]}")
    record = Client(settings, SendsLater()).send(question(not_before=0)).record
    listener.close()
    assert (record.outcome, record.error) == (Outcome.BAD_PROTOCOL, "the server answered before it was asked")
    assert record.first_token_ns is None
    assert record.first_byte_ns is None
    times = [t for t in (record.connect_ns, record.connected_ns, record.sent_ns, record.end_ns) if t is not None]
    assert times == sorted(times)


# Secrets.


def test_no_part_of_a_key_is_recorded_wherever_a_server_repeats_it() -> None:
    bearer = f"Bearer {KEY}"
    encoded = [base64.b64encode(b"x" * n + bearer.encode()).decode() for n in range(3)]
    forms = [
        KEY,
        bearer,
        *encoded,
        KEY[:15],
        KEY[5:],
        KEY.encode().hex(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
    ]
    for form in forms:
        for filler in (0, 495, 2_040, 16_380):
            said = "x" * filler + form + "y" * 600
            scripts: list[list[Step]] = [
                [(0, response(said.encode(), status="400 X", kind="text/plain"))],
                [(0, response(said.encode(), status="200 X", kind="text/html"))],
                [(0, said.encode() + b"\r\n\r\n")],
                stream(token("a"), token("b", said), DONE),
                stream(event('{"error":{"message":"' + said + '"}}')),
                stream(event("{" + said), DONE),
                [(0, response(b"", status="429 X", extra=f"Retry-After: {said}\r\n"))],
            ]
            with serving(lambda number, _request, scripts=scripts: scripts[number]) as server:  # type: ignore[misc]
                for _ in scripts:
                    line = to_line(ask(settings_for(server))).decode()
                    # The beginning of a longer form is "Bearer", which is no secret.
                    assert not pieces_of(form[-24:]) & pieces_of(line), (form, filler, line)


def pieces_of(text: str) -> set[str]:
    """All runs of eight characters, without those of the fillers."""
    return {p for n in range(len(text) - 7) if set(p := text[n : n + 8]) - set("xyeA=HRB")}


def test_what_is_asked_outside_the_measurement_is_without_the_key_too() -> None:
    models = response(f'{{"data":[{{"id":"{KEY}"}}]}}'.encode(), extra=f"Server: {KEY}/1.0\r\n")
    with serving(answer(), models=models) as server:
        reply = asked_apart(server)
    assert reply.headers["server"] == "[key]/1.0"
    assert reply.body == b'{"data":[{"id":"[key]"}]}'
    with serving(answer(), models=f"{KEY} is not HTTP\r\n\r\n".encode()) as server, pytest.raises(WireError) as failed:
        asked_apart(server)
    assert KEY not in failed.value.message


def asked_apart(server: ScriptServer) -> Reply:
    target = parse_target(server.url)
    return get(target, "/v1/models", PollWaiter(), timeout=30, headers={"Authorization": KEY}, secrets=(KEY,))


# Time-outs.

SHORT = 0.4
"""A limit that has to pass, s; the other limits are those of PATIENT."""


def test_until_the_first_token_the_limit_is_that_of_the_first_byte() -> None:
    role = event('{"choices":[{"delta":{"role":"assistant","content":""}}]}')
    waits = [(0.0, SSE_HEAD + chunk(role)), *[(0.1, chunk(b": still here\n\n"))] * 12]
    rest = [(0.0, chunk(token("a", "stop"))), (0.0, chunk(DONE) + LAST_CHUNK)]
    with serving([*waits, *rest]) as server:
        assert ask(settings_for(server, timeouts=replace(PATIENT, idle=SHORT))).outcome is Outcome.OK
    with serving([*waits, (90, b"")]) as server:
        record = ask(settings_for(server, timeouts=replace(PATIENT, first_byte=SHORT)))
    assert (record.outcome, record.error) == (
        Outcome.FIRST_BYTE_TIMEOUT,
        "no token within 0.4 s (--first-byte-timeout)",
    )


def test_a_head_in_several_reads_is_no_answer_either() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX: "
    with serving([(0, head[:20]), (0.05, head[20:]), (0.05, b"y"), (90, b"")]) as server:
        record = ask(settings_for(server, timeouts=replace(PATIENT, first_byte=SHORT)))
    assert record.outcome is Outcome.FIRST_BYTE_TIMEOUT
    with serving([(0, head[:20]), (0.05, head[20:] + b"y\r\n\r\n"), (90, b"")]) as server:
        assert (
            ask(settings_for(server, timeouts=replace(PATIENT, first_byte=SHORT))).outcome is Outcome.FIRST_BYTE_TIMEOUT
        )


@pytest.mark.parametrize("lazy", [False, True])
def test_comments_do_not_keep_a_silent_answer_alive(*, lazy: bool) -> None:
    comments = [(0.1, chunk(b": ping\n\n"))] * 900
    with serving([(0, SSE_HEAD + chunk(token("a"))), *comments]) as server:
        record = ask(settings_for(server, timeouts=replace(PATIENT, idle=SHORT)), lazy=lazy)
    assert (record.outcome, record.error) == (
        Outcome.IDLE_TIMEOUT,
        "nothing for 0.4 s in mid-answer, but kept alive by comments: no token (--idle-timeout)",
    )


def test_the_message_of_a_time_out_names_its_option() -> None:
    with serving(stream(*[token("a")] * 900, pause=0.1)) as endless:
        record = ask(settings_for(endless, timeouts=replace(PATIENT, total=SHORT)))
    assert (record.outcome, record.error) == (Outcome.TOTAL_TIMEOUT, "not complete after 0.4 s (--total-timeout)")
    with deaf_port() as port:
        record = ask(settings_for(f"http://127.0.0.1:{port}", timeouts=replace(PATIENT, connect=SHORT)))
    assert record.outcome is Outcome.CONNECT_TIMEOUT
    assert "--connect-timeout" in (record.error or "")


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port at which connections are neither accepted nor refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    with serving(answer(2)) as server, deaf_port() as deaf:
        settings = settings_for(server, timeouts=replace(PATIENT, connect=1))

        class TwoAddresses(PollWaiter):
            preferred: Address | None = None

            def resolve(self, host: str, port: int, deadline: int) -> list[Address]:  # noqa: ARG002
                return [(socket.AF_INET, (host, deaf)), (socket.AF_INET, (host, port))]

            def prefer(self, host: str, port: int, address: Address) -> None:
                assert address == (socket.AF_INET, (host, port))
                self.preferred = address

        waiter = TwoAddresses()
        record = ask(settings, waiter)
        assert record.outcome is Outcome.OK
        assert waiter.preferred is not None


# TLS.


@contextmanager
def tls_server(then: bytes | None) -> Iterator[str]:
    """Serves the beginning of an answer over TLS, then other bytes or its close_notify, and stays connected."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve() -> None:
        sock, _ = listener.accept()
        with context.wrap_socket(sock, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(SSE_HEAD + chunk(token("a")))
            if then is None:
                secure.settimeout(0.5)
                with suppress(OSError):
                    secure.unwrap()
            else:
                os.write(secure.fileno(), then)
            ended.wait(60)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    ended.set()
    thread.join(30)
    listener.close()


def test_what_came_over_tls_before_it_was_asked_for_is_no_answer_either() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))
    said = threading.Event()

    def speak_first() -> None:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as secure:
            secure.sendall(b"".join(data for _, data in answer(2)))
            said.set()
            while secure.recv(65536):
                pass

    class SendsLater(PollWaiter):
        def sleep_until(self, at: int) -> None:  # noqa: ARG002
            assert said.wait(30)

    thread = threading.Thread(target=speak_first, daemon=True)
    thread.start()
    url = f"https://127.0.0.1:{listener.getsockname()[1]}"
    record = Client(settings_for(url), SendsLater()).send(question(not_before=0)).record
    listener.close()
    thread.join(30)
    assert (record.outcome, record.error) == (
        Outcome.BAD_PROTOCOL,
        "the server answered before it was asked",
    )


CORRUPT = b"\x17\x03\x03\x00\x40" + bytes(64)
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


@pytest.mark.parametrize("then", [CORRUPT, ALERT, b"plain text, suddenly\r\n"])
def test_a_fault_of_tls_ends_an_answer_at_once(then: bytes) -> None:
    with tls_server(then) as url:
        record = ask(settings_for(url))
    assert record.outcome is Outcome.TLS
    assert (record.error or "").startswith("TLS: ")
    assert record.first_token_ns is not None


def test_the_end_of_tls_is_the_end_of_the_connection() -> None:
    with tls_server(None) as url:
        record = ask(settings_for(url))
    assert (record.outcome, record.error) == (Outcome.BROKEN_STREAM, "the server closed the connection in mid-answer")

"""The truth server and clients that are not ours: other ways to ask, slow readers, garbage, crowds."""

import json
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_simulated import ask, logged, simulated

from loadgen.engines.simulated.request import BadRequest, Request, RequestReader, read_chat
from loadgen.launch.simulated import SimulatedServer
from loadgen.record import Outcome

TIMEOUT = 5


def address(server: SimulatedServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.host.rsplit(":", 1)[1])


@contextmanager
def connected(server: SimulatedServer) -> Iterator[socket.socket]:
    with socket.create_connection(address(server), timeout=TIMEOUT) as sock:
        yield sock


def post(*, close: bool = False, request_id: str = "", **asked: Any) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "a b c"}], "stream": True, **asked}).encode()
    more = f"x-request-id: {request_id}\r\n" if request_id else ""
    more += "Connection: close\r\n" if close else ""
    return f"POST /v1/chat/completions HTTP/1.1\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def read_all(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


def exchange(server: SimulatedServer, request: bytes) -> bytes:
    """Send and read to the end."""
    with connected(server) as sock:
        sock.sendall(request)
        return read_all(sock)


def rows(server: SimulatedServer, count: int) -> list[dict[str, Any]]:
    """The log, line by line, as soon as it has so many."""
    deadline = time.monotonic() + 60
    lines: list[str] = []
    while len(lines) < count and time.monotonic() < deadline:
        time.sleep(0.01)
        lines = server.log.read_text().splitlines()
    return [json.loads(line) for line in lines]


def metric(server: SimulatedServer, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", exchange(server, get("/metrics")).decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


LABELS = '{engine="0",model_name="simulated"}'


def test_asks_as_other_clients_write_them_are_understood() -> None:
    def read(**asked: Any) -> Any:
        return read_chat(json.dumps({"messages": [{"role": "user", "content": "a b c"}], **asked}).encode())

    assert read(max_tokens=5).output == 5
    assert read(max_tokens=5, max_completion_tokens=9).output == 9
    assert read(stream_options=None).output == 128
    parts = [{"type": "text", "text": "a b"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "c"}]
    assert read(messages=[{"content": parts}, {"content": None}, {"content": "d"}]).prompt == 4
    assert [read(stream=True, stream_options=o).usage for o in ({"include_usage": True}, {}, None)] == [
        True,
        False,
        False,
    ]
    for wrong in (b"", b"[]", b'"x"', b'{"messages":7}', b'{"messages":["x"]}', b"\xff", b'{"messages":[],"n":[}'):
        with pytest.raises(ValueError, match=r"."):
            read_chat(wrong)
    with pytest.raises(ValueError, match="tokens"):
        read(max_tokens=-1)


WHOLE = post(request_id="a", max_tokens=3) + get("/health") + post(request_id="b")


@given(st.lists(st.integers(0, len(WHOLE))))
def test_requests_are_found_however_their_bytes_are_split(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    reader = RequestReader()
    found: list[Request] = []
    for a, b in pairwise(edges):
        reader.received += WHOLE[a:b]
        while request := reader.next():
            found.append(request)
    assert [(r.method, r.request_id, r.keep_alive) for r in found] == [
        ("POST", "a", True),
        ("GET", "", False),
        ("POST", "b", True),
    ]


@given(st.binary(max_size=300))
def test_garbage_is_no_request_and_raises_nothing_else(garbage: bytes) -> None:
    with suppress(BadRequest):
        RequestReader(bytearray(garbage + b"\r\n\r\n")).next()


def test_usage_comes_where_it_is_asked_for_and_the_script_allows_it(tmp_path: Path) -> None:
    asking = post(max_tokens=2, close=True, stream_options={"include_usage": True})
    with simulated(tmp_path, ttft_ms=1, itl_ms=1) as server:
        assert b'"usage":{"prompt_tokens":3' in exchange(server, asking)
        assert b'"usage":{' not in exchange(server, post(max_tokens=2, close=True))
        assert b'"usage": {' in exchange(server, post(max_tokens=2, close=True, stream=False))
    with simulated(tmp_path, ttft_ms=1, itl_ms=1, no_usage=True) as server:
        assert b'"usage"' not in exchange(server, asking)
        assert b'"usage"' not in exchange(server, post(max_tokens=2, close=True, stream=False))


def test_every_answer_says_simulated(tmp_path: Path) -> None:
    requests = [post(max_tokens=1, close=True), post(stream=False, close=True), b"garbage\r\n\r\n"]
    requests += [get(path) for path in ("/health", "/metrics", "/v1/models", "/nowhere")]
    with simulated(tmp_path, ttft_ms=1, itl_ms=1) as server:
        assert all(b"\r\nserver: simulated\r\n" in exchange(server, request) for request in requests)


def test_requests_without_an_id_are_logged_each(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=1) as server:
        for _ in range(3):
            exchange(server, post(max_tokens=2, close=True))
        logs = rows(server, 3)
    assert [(row["request_id"], row["output_tokens"]) for row in logs] == [("", 2)] * 3


def test_pipelined_requests_are_answered_one_after_the_other(tmp_path: Path) -> None:
    asked = post(max_tokens=2, request_id="1") + post(max_tokens=2, request_id="2") + get("/health")
    with simulated(tmp_path, ttft_ms=5, itl_ms=1) as server:
        answers = exchange(server, asked)
        first, second = rows(server, 2)
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert (first["request_id"], second["request_id"]) == ("1", "2")
    assert first["sent_ns"][-1] <= second["received_ns"]


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b" 400 "),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b" 411 "),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b" 413 "),
        (b"x" * 70_000, b" 431 "),
        (post(messages=7, close=True), b" 400 "),
        (get("/nowhere"), b" 404 "),
        (get("/nowhere", "HEAD"), b" 404 "),
        (get("/v1/chat/completions"), b" 404 "),
    ],
)
def test_what_cannot_be_answered_is_refused_and_others_are_served_on(
    tmp_path: Path, garbage: bytes, status: bytes
) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=1) as server:
        answer = exchange(server, garbage)
        assert status in answer.split(b"\r\n")[0]
        assert ask(server)[0].outcome is Outcome.OK


def test_head_has_no_body(tmp_path: Path) -> None:
    with simulated(tmp_path) as server:
        head = exchange(server, get("/v1/models", "HEAD"))
        assert head.endswith(b"\r\n\r\n")
        assert exchange(server, get("/v1/models")).startswith(head)


def test_a_client_that_waits_for_100_continue_gets_it(tmp_path: Path) -> None:
    head, _, body = post(max_tokens=2, close=True).partition(b"\r\n\r\n")
    with simulated(tmp_path, ttft_ms=1, itl_ms=1) as server, connected(server) as sock:
        sock.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        sock.sendall(body)
        assert b"[DONE]" in read_all(sock)


def test_a_client_that_does_not_read_holds_nobody_up_and_is_told_of_truly(tmp_path: Path) -> None:
    tokens = 20_000  # some 5 MB, more than the kernel keeps between the two
    with simulated(tmp_path, ttft_ms=1, itl_ms=0.01) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(TIMEOUT)
        sock.connect(address(server))
        sock.sendall(post(max_tokens=tokens, request_id="slow", close=True))
        time.sleep(0.5)
        other, truth = ask(server)
        assert other.outcome is Outcome.OK
        assert max(truth.chunk_ns) - truth.received_ns < 300_000_000
        read_from = time.monotonic_ns()
        assert read_all(sock).count(b" word") == tokens
        slow = logged(server, 2)["slow"]
    assert (len(slow.chunk_ns), slow.output_tokens) == (tokens, tokens)
    assert slow.sent_ns == sorted(slow.sent_ns)
    assert slow.chunk_ns[0] < read_from < slow.chunk_ns[-1]


def test_a_client_that_goes_away_is_logged_as_far_as_it_was_sent_to(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=20) as server:
        with connected(server) as sock:
            sock.sendall(post(max_tokens=1000, request_id="gone"))
            sock.recv(100)
            assert metric(server, "vllm:num_requests_running" + LABELS) == 1
        truth = logged(server, 1)["gone"]
        assert metric(server, "vllm:num_requests_running" + LABELS) == 0
        aborted = f"vllm:request_success_total{LABELS[:-1].replace(',', ',finished_reason=*abort*,')}}}"
        assert metric(server, aborted.replace("*", '"')) == 1
    assert 0 <= truth.output_tokens < 10
    assert truth.end_ns is None


def test_a_stream_that_never_ends_is_logged_behind_its_last_send(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=1, never_close=True) as server, connected(server) as sock:
        sock.sendall(post(max_tokens=2, request_id="open"))
        truth = logged(server, 1)["open"]
    assert (truth.kinds, truth.end_ns) == (["h", "r", "t", "t", "d"], None)


def test_metrics_are_vllms(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=30, itl_ms=20) as server:
        for _ in range(2):
            exchange(server, post(max_tokens=4, close=True))
        text = exchange(server, get("/metrics")).decode()
        for name, count in (("time_to_first_token", 2), ("inter_token_latency", 6), ("e2e_request_latency", 2)):
            assert metric(server, f"vllm:{name}_seconds_count{LABELS}") == count
            assert f"# TYPE vllm:{name}_seconds histogram" in text
        assert metric(server, "vllm:generation_tokens_total" + LABELS) == 8
        assert metric(server, "vllm:prompt_tokens_total" + LABELS) == 6
        assert metric(server, "vllm:time_to_first_token_seconds_sum" + LABELS) == pytest.approx(0.06, abs=0.03)
        assert (
            metric(server, 'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.02",model_name="simulated"}') == 0
        )
    assert "# HELP vllm:num_requests_waiting Number of requests waiting to be processed.\n" in text


def test_metrics_of_a_model_have_its_queue(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="transformers-4.31.0-llama2-70b") as server, connected(server) as running:
        running.sendall(post(max_tokens=100))
        running.recv(100)
        with connected(server) as waiting:
            waiting.sendall(post(max_tokens=100))
            time.sleep(0.05)
            assert metric(server, "vllm:num_requests_running" + LABELS) == 1
            assert metric(server, "vllm:num_requests_waiting" + LABELS) == 1


def test_a_request_that_the_models_cache_can_never_hold_is_refused(tmp_path: Path) -> None:
    with simulated(tmp_path, profile="kv-bound", time_factor=50) as server:
        assert b" 400 " in exchange(server, post(max_tokens=4000, close=True)).split(b"\r\n")[0]
        assert ask(server)[0].outcome is Outcome.OK


def test_a_crowd_that_comes_at_once_is_let_in(tmp_path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    crowd, tokens = 1000, 3
    with simulated(tmp_path, ttft_ms=100, itl_ms=10) as server:
        socks = []
        for number in range(crowd):
            sock = socket.create_connection(address(server), timeout=TIMEOUT)
            sock.sendall(post(max_tokens=tokens, request_id=str(number), close=True))
            socks.append(sock)
        assert all(b"[DONE]" in read_all(sock) for sock in socks)
        for sock in socks:
            sock.close()
        assert len(logged(server, crowd)) == crowd


def test_with_no_files_left_connections_wait_their_turn() -> None:
    command = f"ulimit -n 30; exec {sys.executable} -m loadgen.engines.simulated --ttft-ms 20 --itl-ms 1"
    with subprocess.Popen(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        port = int(process.stdout.readline().decode().rsplit(":", 1)[1])
        answers: list[bytes] = []

        all_connected = threading.Barrier(60)

        def talk() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as sock:
                all_connected.wait()
                sock.sendall(post(max_tokens=2, close=True))
                answers.append(read_all(sock))

        threads = [threading.Thread(target=talk) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        process.stdin.close()
        said = process.stderr.read()
    assert sum(b"[DONE]" in answer for answer in answers) == 60
    assert b"at most 14 connections" in said
    assert b"further connections wait" in said

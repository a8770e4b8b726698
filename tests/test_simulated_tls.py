"""The truth server over TLS: the same loop, the same truth."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from test_simulated import ask, assert_same_times, logged, simulated
from test_simulated_requests import connected, post, read_all

from loadgen.launch.simulated import SimulatedServer, Truth
from loadgen.record import Outcome
from loadgen.wire.target import parse_target


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def tls_server(tmp_path: Path, authority: trustme.CA, **options: Any) -> Iterator[SimulatedServer]:
    issued = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    with simulated(tmp_path, tls_cert=cert, tls_key=key, **options) as server:
        assert server.host.startswith("https://")
        yield server


def ask_over_tls(server: SimulatedServer, authority: trustme.CA, tokens: int, **changes: Any) -> tuple[Any, Truth]:
    target = parse_target(server.host)
    assert target.tls is not None
    authority.configure_trust(target.tls)
    return ask(server, tokens, target=target, **changes)


@pytest.mark.parametrize("keep_alive", [False, True])
def test_https_is_logged_as_it_was_sent(tmp_path: Path, authority: trustme.CA, *, keep_alive: bool) -> None:
    with tls_server(tmp_path, authority, ttft_ms=20, itl_ms=3, done_ms=10, close_ms=10) as server:
        record, truth = ask_over_tls(server, authority, 16, keep_alive=keep_alive)
    assert (record.outcome, record.output_tokens, record.stamp) == (Outcome.OK, 16, "kernel")
    assert_same_times(record, truth)


def test_a_handshake_that_stands_still_holds_nobody_up(tmp_path: Path, authority: trustme.CA) -> None:
    with tls_server(tmp_path, authority, ttft_ms=5, itl_ms=1) as server, connected(server) as silent:
        silent.sendall(b"\x16\x03\x01")
        with connected(server) as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert ask_over_tls(server, authority, 8)[0].outcome is Outcome.OK
            assert b"HTTP" not in garbage.recv(100)


def test_a_tls_client_that_does_not_read_gets_all_in_the_end(tmp_path: Path, authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with tls_server(tmp_path, authority, ttft_ms=1, itl_ms=0.01) as server, connected(server) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            sock.sendall(post(max_tokens=20_000, request_id="slow", close=True))
            time.sleep(0.5)
            assert read_all(sock).count(b" word") == 20_000
        assert len(logged(server, 1)["slow"].chunk_ns) == 20_000

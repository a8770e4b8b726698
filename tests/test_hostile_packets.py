"""The master's port, when somebody else speaks there: the run goes on, and says that packets were dropped."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import zmq
from cluster import Started, Starter, assert_all_is_there, assert_ends_well, engine
from conftest import free_port
from serving import answer, serving

SECONDS = ("--sample", "20", "--warmup", "2", "--max-tokens", "8", "--requests", "120")
ID = b"stranger"


def message(kind: object, data: object, node: object = ID.decode()) -> bytes:
    packed: bytes = msgpack.dumps((kind, data, node))
    return packed


MALFORMED = [
    b"",
    b"\xc1",
    os.urandom(200),
    message("stats", {"stats": []})[:-4],
    b"\x91" * 5_000,
    msgpack.dumps(7),
    msgpack.dumps("three"),
    msgpack.dumps(("stats", {})),
    message(7, None),
    message("stats", {}, 7),
    msgpack.dumps(("stats", {"__datetime__": 1}, "stranger")),
    msgpack.dumps(("stats", {"__ObjectId__": 1}, "stranger")),
]

KINDS = (
    *("heartbeat", "stats", "spawning", "spawning_complete", "logs", "exception", "client_stopped", "locustfile"),
    *("loadgen-hello", "loadgen-clock", "loadgen-ready", "loadgen-go", "unheard-of"),
)
CONTENTS: list[Any] = [
    *(None, 7, "text", [1], {}, {"packed": 7}, {"packed": b"\xc1"}, {"packed": msgpack.dumps({"version": 1})}),
    {"state": "running", "current_cpu_usage": "much"},
    {"state": 7, "current_cpu_usage": 1.0},
    {"stats": [{"name": 1}], "stats_total": {}, "errors": {}, "user_classes_count": {}, "user_count": 0},
    {"user_classes_count": {"Chat": "many"}, "user_count": 1},
    {"loadgen": 7},
]


@contextmanager
def dealer(port: int, identity: bytes = ID) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.linger = 500
        sock.identity = identity
        sock.connect(f"tcp://127.0.0.1:{port}")
        yield sock


def attack(port: int) -> None:
    """Send all of it: as a stranger, as a stranger who speaks for others, and as bytes that are no ZeroMQ."""
    with dealer(port) as sock:
        for data in MALFORMED:
            sock.send(data)
            sock.send_multipart([data, data, data])
        for kind in KINDS:
            for content in CONTENTS:
                sock.send(message(kind, content))
            sock.send(message(kind, {}, "somebody else"))
    with dealer(port, b"\xff\x00\xfe") as sock:
        sock.send(message("client_ready", "2.47.0"))
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\xff" + b"\x00" * 8 + b"\x7f\x03" + b"\x00" * 53):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(garbage)


def assert_dropped(run: Started) -> None:
    assert "Dropped" in run.said
    assert run.said.count("Dropped") < 20  # not a line each
    assert "Traceback" not in run.said
    assert_all_is_there(run)


def test_a_run_of_forked_processes_outlives_what_strangers_send(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=40, itl_ms=5) as server:
        run = start.forked(server.host, "--users", "4", *SECONDS)
        run.when_measuring()
        port = master_port(run)
        attack(port)
        with dealer(port) as sock:  # not a child of the master's
            sock.send(message("client_ready", "2.47.0"))
        assert_ends_well(run)
    assert_dropped(run)
    assert len([worker for worker in run.manifest["workers"] if worker["number"]]) == 2


def test_a_run_of_workers_by_hand_outlives_what_strangers_send(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=40, itl_ms=5) as server:
        run = start.master(port, "--host", server.host, "--users", "4", *SECONDS, "--expect-workers", "1")
        worker = start.worker("one", port)
        run.when_measuring(1)
        attack(port)
        assert_ends_well(run)
        worker.wait()
    assert_dropped(run)


def master_port(run: Started) -> int:
    """The port at which the master listens; it has to be on loopback."""
    (address,) = [c.laddr for c in psutil.Process(run.process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert address.ip == "127.0.0.1"
    return int(address.port)


def test_of_two_runs_at_once_on_one_port_one_runs_and_the_other_says_why_not(start: Starter) -> None:
    port = str(free_port())
    ports = ("--master-bind-port", port, "--master-port", port)
    few = ("--sample", "4", "--warmup", "1", "--users", "2", "--processes", "2")
    with serving(answer(2)) as server:
        runs = [start("--headless", "--host", server.url, *few, *ports, name=name) for name in ("a", "b")]
        statuses = [run.wait() for run in runs]  # nothing of either is left
    assert sorted(status == 2 for status in statuses) == [False, True], [run.said for run in runs]
    loser, winner = sorted(runs, key=lambda run: run.process.returncode != 2)
    assert f"--master-bind-port {port}" in loser.said
    assert "Traceback" not in loser.said
    assert winner.summary["requests"]["completed"] == 4


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_a_master_listens_where_it_was_told_to(start: Starter, host: str) -> None:
    port = free_port()
    with serving(answer(1)) as server:
        run = start(
            "--headless", "--master", "--master-bind-host", host, "--master-bind-port", str(port), "--host", server.url
        )
        with dealer(port) as sock:  # it is served there, by ZeroMQ
            sock.send(message("client_ready", "2.47.0"))
            assert sock.poll(60_000), run.said
        (address,) = [c.laddr for c in psutil.Process(run.process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert address.port == port
    assert (address.ip == "127.0.0.1") == (host == "127.0.0.1")

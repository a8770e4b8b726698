"""Which send time is better: the clock just before the send call, or the kernel's stamp from the error queue."""

import argparse
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.figures import Case, Figures, Section, spread
from benchmarks.machine import CLIENT_CORE, SERVER_CORE
from loadgen.wire.connection import SO_TIMESTAMPNS

_TIMESTAMPING = 37
"""``SO_TIMESTAMPING`` and the control message of the same number, Linux ``asm-generic/socket.h``."""
_TX_SOFTWARE, _SOFTWARE, _ID, _STAMP_ONLY = 1 << 1, 1 << 4, 1 << 7, 1 << 11
"""Flags of Linux ``net_tstamp.h``."""
_TIMESPEC = struct.Struct("@qq")
_ANSWER = struct.Struct("@qq")
_CONTROL_BYTES = 512
_REQUEST = b"x" * 600
"""About as long as a chat request with its head."""
_PAUSE_S = 0.0005
"""Between requests: a server that waits is what a client meets, and has to be woken."""
Send = Callable[[socket.socket], int | None]
"""Sends a request and returns when, ns on the realtime clock; None if it took no time."""


class Exchanged(NamedTuple):
    """A request: sent, stamped on receipt and read, ns on the realtime clock; the CPU time of sending it, ns."""

    sent: int | None
    stamped: int
    read: int
    cpu: int


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--requests", type=int, default=5000, help="of each way, in each round")


def measure(options: argparse.Namespace) -> Section:
    """Run all ways in turn."""
    ways = {"no time taken": _plain, "clock before the send call": _by_clock, "kernel's TX stamp": _by_stamp}
    cases = {name: Case(name) for name in ways}
    for _ in range(options.rounds):
        with _server() as sock:
            _warm(sock)
            for name, way in ways.items():
                cases[name].rounds.append(_figures(_exchange(sock, way, options.requests)))
    note = (
        "Received: the kernel's stamp of the request at the server, and the server's clock just after its read. CPU is "
        "the client's, from before the time is taken and the request sent until both are done."
    )
    return Section(
        f"{options.requests:,} requests of {len(_REQUEST)} bytes over loopback", list(cases.values()), [note]
    )


def _figures(exchanged: Sequence[Exchanged]) -> Figures:
    timed = [one for one in exchanged if one.sent is not None]
    return {
        **spread("from it to the kernel's receive stamp", [(e.stamped - (e.sent or 0)) / 1e3 for e in timed], "us"),
        **spread("from it to the server's read", [(e.read - (e.sent or 0)) / 1e3 for e in timed], "us"),
        **spread("CPU of a send", [e.cpu / 1e3 for e in exchanged], "us"),
    }


def _exchange(sock: socket.socket, send: Send, count: int) -> list[Exchanged]:
    """Make requests, one after the other."""
    wanted = _TX_SOFTWARE | _SOFTWARE | _ID | _STAMP_ONLY if send is _by_stamp else 0
    sock.setsockopt(socket.SOL_SOCKET, _TIMESTAMPING, wanted)
    found = []
    for _ in range(count):
        before = time.process_time_ns()
        sent = send(sock)
        cpu = time.process_time_ns() - before
        stamped, read = _ANSWER.unpack(sock.recv(_ANSWER.size))
        found.append(Exchanged(sent, stamped, read, cpu))
        time.sleep(_PAUSE_S)
    return found


def _plain(sock: socket.socket) -> None:
    sock.sendall(_REQUEST)


def _by_clock(sock: socket.socket) -> int:
    at = time.time_ns()
    sock.sendall(_REQUEST)
    return at


def _by_stamp(sock: socket.socket) -> int:
    sock.sendall(_REQUEST)
    while True:
        try:
            _, control, _, _ = sock.recvmsg(0, _CONTROL_BYTES, socket.MSG_ERRQUEUE)
        except BlockingIOError:  # not stamped yet
            continue
        for _, kind, data in control:
            if kind == _TIMESTAMPING:
                return _ns(data)


def _ns(timespec: bytes) -> int:
    seconds, ns = _TIMESPEC.unpack_from(timespec)
    return int(seconds) * 1_000_000_000 + int(ns)


@contextmanager
def _server() -> Iterator[socket.socket]:
    """Start a process that answers each request with when it had it; yield a connection to it, each on its core."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            _pin(SERVER_CORE)
            _answer(listener)
            os._exit(0)
        before = os.sched_getaffinity(0)
        _pin(CLIENT_CORE)
        try:
            with socket.create_connection(listener.getsockname()) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield sock
        finally:
            os.sched_setaffinity(0, before)
            os.waitpid(child, 0)  # it ends with the connection


def _answer(listener: socket.socket) -> None:
    listener.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock, _ = listener.accept()
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    while True:
        data, control, _, _ = sock.recvmsg(4096, _CONTROL_BYTES)
        read = time.time_ns()
        if not data:
            return
        stamp = next((_ns(data) for _, kind, data in control if kind == SO_TIMESTAMPNS), 0)
        sock.sendall(_ANSWER.pack(stamp, read))


def _warm(sock: socket.socket) -> None:
    """Wait until the kernel stamps what it receives, which it begins to do some time after the first socket asks."""
    while not all(one.stamped for one in _exchange(sock, _by_clock, 100)):
        select.select([], [], [], 0.01)


def _pin(core: int) -> None:
    if core in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {core})

"""Waiting for sockets: the only part of the wire that depends on the event loop."""

import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.wire.read_loop import ReadLoop
from loadgen.wire.response_reader import SWEEP_MS, ResponseReader

Address = tuple[socket.AddressFamily, tuple[str, int]]
"""Family, and what ``connect`` takes (of IPv6 addresses the first two parts)."""


TokenMark = Callable[[bytes], object]
"""Finds a token in a part of a stream, by its bytes; falsy where there is none."""


class Waiter(Protocol):
    """Waits for a socket or a name without keeping others from running."""

    def readable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is readable; False if the deadline passed first."""

    def writable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is writable; False if the deadline passed first."""

    def resolve(self, host: str, port: int, deadline: Ns) -> list[Address]:
        """Look a name up, the best address first; raises socket.gaierror, or TimeoutError at the deadline."""

    def prefer(self, host: str, port: int, address: Address) -> None:
        """Note which address of a host could be connected to; it comes first from now on."""

    def sleep_until(self, at: Ns) -> None:
        """Wait until a time."""

    def receive(self, reader: ResponseReader) -> None:
        """Wait until a response is over."""


class PollWaiter:
    """Waits by ``poll``: for a process that does one thing at a time."""

    def readable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is readable."""
        return _poll(fd, select.POLLIN, deadline)

    def writable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is writable."""
        return _poll(fd, select.POLLOUT, deadline)

    def resolve(self, host: str, port: int, deadline: Ns) -> list[Address]:  # noqa: ARG002 the resolver has its own
        """Look a name up."""
        return lookup(host, port)

    def prefer(self, host: str, port: int, address: Address) -> None:
        """Do nothing: names are looked up each time."""

    def sleep_until(self, at: Ns) -> None:
        """Sleep."""
        time.sleep(max(0, at - now()) / SECOND)

    def receive(self, reader: ResponseReader) -> None:
        """Read a response to its end."""
        loop = ReadLoop(select.epoll() if hasattr(select, "epoll") else PollPoller())
        loop.add(reader, lambda: None)  # whoever waits polls
        try:
            while not reader.over:
                loop.poll(SWEEP_MS / 1000)
                loop.sweep()
        finally:
            loop.remove(reader)


class PollPoller:
    """``select.poll`` with the face of epoll, for systems without epoll."""

    def __init__(self, poll: Callable[[], Any] = select.poll) -> None:
        """``poll``: makes the object that polls, where :mod:`select` does not have the system's own."""
        self._poll = poll()

    def register(self, fd: int, events: int) -> None:
        """Watch a descriptor."""
        self._poll.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""
        self._poll.unregister(fd)

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:  # noqa: ARG002 it returns all
        """Return ready descriptors."""
        ready: list[tuple[int, int]] = self._poll.poll(timeout * 1000)
        return ready


def lookup(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, in the resolver's order; raises socket.gaierror."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(socket.AddressFamily(family), (str(a[0]), int(a[1]))) for family, _, _, _, a in found]


def _poll(fd: int, events: int, deadline: Ns) -> bool:
    poll = select.poll()
    poll.register(fd, events)
    return bool(poll.poll(max(0, (deadline - now()) / MS)))

"""A connection's bytes: sends that never wait, and the times at which they were truly made."""

import select
import socket
from collections import deque
from struct import pack
from time import monotonic_ns

_READ = 65_536


class Channel:
    """One socket, spoken to in the clear. What the client does not take is kept until it reads on."""

    __slots__ = ("_epoll", "_marks", "_out", "_send", "_taken", "fd", "sock", "times")

    def __init__(self, sock: socket.socket, epoll: select.epoll) -> None:
        """Take a socket that does not block, and watch it."""
        self.sock = sock
        self.fd = sock.fileno()
        self.times: list[int] = []
        """For each :meth:`send` that is done, just before the send call that took its last byte, ns."""
        self._send = sock.send
        self._epoll = epoll
        self._out = bytearray()
        self._taken = 0  # bytes of _out that went out, ever
        self._marks: deque[int] = deque()  # where in _out's bytes each send ends that is not done
        epoll.register(self.fd, select.EPOLLIN)

    @property
    def waits(self) -> bool:
        """Tell whether bytes are kept for the client."""
        return bool(self._out)

    def send(self, data: bytes) -> None:
        """Send now, or behind what is kept; raises OSError if the client has gone."""
        if self._out:
            self._out += data
            self._marks.append(self._taken + len(self._out))
            return
        at = monotonic_ns()
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            self.times.append(at)
        else:
            self._keep(data[sent:])
            self._marks.append(self._taken + len(self._out))

    def send_beside(self, data: bytes) -> None:
        """Send what is no part of an answer and has no time."""
        if self._out:
            self._out += data
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._keep(data[sent:])

    def flush(self) -> None:
        """Send of what is kept as much as the client takes; raises OSError."""
        at = monotonic_ns()
        try:
            sent = self._send(self._out)
        except BlockingIOError:
            return
        del self._out[:sent]
        self._taken += sent
        while self._marks and self._marks[0] <= self._taken:
            self._marks.popleft()
            self.times.append(at)
        if not self._out:
            self._epoll.modify(self.fd, select.EPOLLIN)

    def receive(self) -> bytes:
        """Return what came, nothing if it says nothing yet; raises OSError if the client has gone."""
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError
        return data

    def close(self) -> None:
        """Close."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset: without lingering the kernel says RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self.sock.close()

    def _keep(self, rest: bytes) -> None:
        self._out += rest
        self._epoll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)

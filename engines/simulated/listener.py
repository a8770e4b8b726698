"""The door: where connections come in, a few at a time, and what happens when there are too many."""

import errno
import resource
import select
import socket
import ssl
import sys
from collections.abc import Callable

from loadgen.engines.simulated.channel import Channel
from loadgen.engines.simulated.tls import TlsChannel

_BACKLOG = 65_535
"""The kernel caps it at net.core.somaxconn."""
_AT_ONCE = 8
"""Connections accepted before sends have their turn again: 10,000 may come at once."""
_SPARE = 16
"""Files that are not connections."""
_ENOUGH = 10_000
"""Connections that a test may want; with room for fewer the server says so."""


class Listener:
    """Listens on loopback."""

    def __init__(self, port: int, epoll: select.epoll, tls: ssl.SSLContext | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self._socket.setblocking(False)  # noqa: FBT003
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        self._epoll = epoll
        self._tls = tls
        self._full = False
        self.fd = self._socket.fileno()
        epoll.register(self.fd, select.EPOLLIN)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}"

    def accept(self, take: Callable[[Channel], None]) -> None:
        """Accept some of those who wait."""
        for _ in range(_AT_ONCE):
            try:
                sock, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in {errno.EMFILE, errno.ENFILE}:
                    self._pause()
                return
            sock.setblocking(False)  # noqa: FBT003
            take(Channel(sock, self._epoll) if self._tls is None else TlsChannel(sock, self._epoll, self._tls))

    def resume(self) -> None:
        """Accept again: a connection has ended."""
        if self._full:
            self._full = False
            self._epoll.register(self.fd, select.EPOLLIN)

    def _pause(self) -> None:
        self._full = True
        self._epoll.unregister(self.fd)
        sys.stderr.write("no more files: further connections wait until others end; raise ulimit -Hn\n")


def raise_limit_of_files() -> str:
    """Raise the limit of open files as far as it goes; return a warning if that is not far, else nothing."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY or hard >= _ENOUGH + _SPARE:
        return ""
    return f"at most {hard - _SPARE} connections: the hard limit of open files is {hard}; raise ulimit -Hn\n"

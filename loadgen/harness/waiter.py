"""How the wire waits under gevent: the greenlet sleeps in the hub until its socket is ready."""

import gevent
from gevent.hub import get_hub

from loadgen.clock import SECOND, Ns, now
from loadgen.wire.waiting import Address, lookup

_READ, _WRITE = 1, 2
"""libev's event flags."""


class GeventWaiter:
    """Waits in gevent's hub."""

    def readable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is readable; False if the deadline passed first."""
        return _wait(fd, _READ, deadline)

    def writable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is writable; False if the deadline passed first."""
        return _wait(fd, _WRITE, deadline)

    def resolve(self, host: str, port: int, deadline: Ns) -> list[Address]:
        """Look a name up; raises socket.gaierror, or TimeoutError at the deadline."""
        with gevent.Timeout((deadline - now()) / SECOND, TimeoutError):
            return lookup(host, port)  # Locust has patched getaddrinfo to run beside the hub


def _wait(fd: int, events: int, deadline: Ns) -> bool:
    left = (deadline - now()) / SECOND
    if left <= 0:
        return False
    hub = get_hub()
    watcher = hub.loop.io(fd, events)
    try:
        with gevent.Timeout(left, TimeoutError):
            hub.wait(watcher)
    except TimeoutError:
        return False
    else:
        return True
    finally:
        watcher.close()

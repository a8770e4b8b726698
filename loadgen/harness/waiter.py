"""How the wire waits under gevent: one reader for all streams, run by the hub; greenlets sleep until theirs is over."""

from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
from gevent.hub import Waiter as Slot
from gevent.hub import get_hub

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.wire.reception import SWEEP_MS, ReadLoop, Reception
from loadgen.wire.waiting import Address, PollPoller, lookup

_READ, _WRITE = 1, 2
"""libev's event flags."""

MANY_STREAMS = 32
"""With fewer streams each is read as soon as it is readable; from so many on a tick costs less than a wake-up for each
token."""

TICK_S = 0.001
"""Sockets are looked at so often in any case: what was not there at one tick and is at the next has an arrival known to
1 ms, also where its stamp is spoiled."""

RESOLVED_FOR_S = 60


class GeventWaiter:
    """Waits in gevent's hub. Needs its process to itself: it is made after Locust has forked."""

    def __init__(self) -> None:
        self._hub = get_hub()
        epoll = _original_epoll()
        self._loop = ReadLoop(PollPoller() if epoll is None else epoll)
        loop = self._hub.loop
        self._ready = None if epoll is None else loop.io(epoll.fileno(), _READ)
        self._tick = loop.timer(TICK_S, TICK_S)
        self._sweep = loop.timer(SWEEP_MS / 1000, SWEEP_MS / 1000)
        self._resolved: dict[tuple[str, int], tuple[Ns, list[Address]]] = {}

    def readable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is readable; False if the deadline passed first."""
        return _wait(fd, _READ, deadline)

    def writable(self, fd: int, deadline: Ns) -> bool:
        """Wait until the descriptor is writable; False if the deadline passed first."""
        return _wait(fd, _WRITE, deadline)

    def resolve(self, host: str, port: int, deadline: Ns) -> list[Address]:
        """Look a name up, at most once a minute; raises socket.gaierror, or TimeoutError at the deadline."""
        at, addresses = self._resolved.get((host, port), (None, []))
        if at is None or now() - at > RESOLVED_FOR_S * SECOND:
            with gevent.Timeout((deadline - now()) / SECOND, TimeoutError):
                addresses = lookup(host, port)  # Locust has patched getaddrinfo to run beside the hub
            self._resolved[host, port] = now(), addresses
        return addresses

    def receive(self, reception: Reception) -> None:
        """Sleep until a response is over."""
        slot = Slot(self._hub)
        reception.wake = lambda: self._hub.loop.run_callback(slot.switch, None)
        if len(self._loop) >= MANY_STREAMS:
            # Many starts in a row would keep the hub from its ticks, and tokens waiting: they are read in between.
            self._loop.poll_if_older_than(MS)
        self._loop.add(reception)
        self._watch()
        try:
            while not reception.over:
                slot.get()
        finally:
            self._loop.remove(reception)
            self._watch()

    def _watch(self) -> None:
        """Read on ticks while there are streams and, while they are few, also as soon as one is readable."""
        streams = len(self._loop)
        _run(self._tick, self._loop.poll, wanted=streams > 0)
        _run(self._sweep, self._loop.sweep, wanted=streams > 0)
        if self._ready is not None:
            _run(self._ready, self._loop.poll, wanted=0 < streams < MANY_STREAMS)


def _run(watcher: Any, callback: Callable[[], None], *, wanted: bool) -> None:  # noqa: ANN401 one of gevent's
    if wanted and not watcher.active:
        watcher.start(callback)
    elif watcher.active and not wanted:
        watcher.stop()


def _original_epoll() -> Any:  # noqa: ANN401 select.epoll, where there is one
    """Return an epoll object, which gevent hides from those that ask select for it; None where there is none."""
    try:
        return gevent.monkey.get_original("select", "epoll")()
    except AttributeError:
        return None


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

"""How the wire waits under gevent: one reader for all streams, run by the hub; greenlets sleep until theirs is over."""

from collections.abc import Callable
from typing import Any

import gevent
import gevent.monkey
from gevent.hub import Waiter as Slot
from gevent.hub import get_hub

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.harness.alarm import Alarm
from loadgen.wire.read_loop import ReadLoop
from loadgen.wire.response_reader import SWEEP_MS, ResponseReader
from loadgen.wire.waiting import Address, PollPoller, lookup

_READ, _WRITE = 1, 2
"""libev's event flags."""

TICK_S = 0.001
"""While much comes, sockets are looked at so often and not each time that one is ready: what was not there at one tick
and is at the next has an arrival known to 1 ms, also where its stamp is spoiled."""

SLOW_TICK_MS = 4
"""While next to nothing comes, beside being read as soon as they are ready: so a spoiled stamp is known to 4 ms, for a
quarter of what ticks cost."""

MANY_STREAMS = 32
"""With fewer there are no ticks, however much comes: tokens of one stream that are less than a tick apart would be read
together."""

_BUSY = SWEEP_MS
"""Looks between two sweeps from which ticks cost less: as many as there would be."""

_QUIET = SWEEP_MS // 2
"""Reads between two sweeps below which a wake-up for each costs less than the ticks."""

RESOLVED_FOR_S = 60


class GeventWaiter:
    """Waits in gevent's hub. Needs its process to itself: it is made after Locust has forked."""

    def __init__(self) -> None:
        self._hub = get_hub()
        epoll = _original_epoll()
        self._loop = ReadLoop(PollPoller(gevent.monkey.get_original("select", "poll")) if epoll is None else epoll)
        loop = self._hub.loop
        self._ready = None if epoll is None else loop.io(epoll.fileno(), _READ)
        self._tick = loop.timer(TICK_S, TICK_S)
        self._slow_tick = loop.timer(SLOW_TICK_MS / 1000, SLOW_TICK_MS / 1000)
        self._sweep = loop.timer(SWEEP_MS / 1000, SWEEP_MS / 1000)
        self._busy = epoll is None
        """Whether sockets are looked at on ticks."""
        self._still = True
        """Whether they are ready so seldom that they are looked at in between."""
        self._alarm = _alarm()
        self._resolved: dict[tuple[str, int], tuple[Ns, list[Address]]] = {}
        self._preferred: dict[tuple[str, int], Address] = {}

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
            addresses.sort(key=lambda address: address != self._preferred.get((host, port)))
            self._resolved[host, port] = now(), addresses
        return addresses

    def prefer(self, host: str, port: int, address: Address) -> None:
        """Put an address first, also when the name has been looked up again."""
        self._preferred[host, port] = address
        if (host, port) in self._resolved:
            self._resolved[host, port][1].sort(key=lambda other: other != address)

    def receive(self, reader: ResponseReader) -> None:
        """Sleep until a response is over."""
        slot = Slot(self._hub)
        if self._busy:
            # Many starts in a row would keep the hub from its ticks, and tokens waiting: they are read in between.
            self._loop.poll_if_older_than(MS)
        self._loop.add(reader, lambda: self._hub.loop.run_callback(slot.switch, None))
        self._watch()
        try:
            while not reader.over:
                slot.get()
        finally:
            self._loop.remove(reader)
            self._watch()

    def sleep_until(self, at: Ns) -> None:
        """Sleep until ``at``."""
        if self._alarm is not None:
            self._alarm.sleep_until(at)
        while (left := at - now()) > 0:
            gevent.sleep(left / SECOND)

    def _look_round(self) -> None:
        """Sweep, and see whether what came since the last sweep is worth a tick."""
        loop = self._loop
        polls, reads, loop.polls, loop.reads = loop.polls, loop.reads, 0, 0
        if self._ready is not None:
            pays = reads >= _QUIET if self._busy else polls > _BUSY
            self._busy = pays and len(loop) >= MANY_STREAMS
            self._still = reads < SWEEP_MS // SLOW_TICK_MS and not self._busy
        loop.poll()
        loop.sweep()
        self._watch()

    def _watch(self) -> None:
        """Let the hub call us, as long as there are streams: on ticks, or as soon as one is ready and on slow ticks."""
        streams = len(self._loop) > 0
        _run(self._sweep, self._look_round, wanted=streams)
        _run(self._tick, self._loop.poll, wanted=streams and self._busy)
        _run(self._slow_tick, self._loop.poll, wanted=streams and self._still)
        if self._ready is not None:
            _run(self._ready, self._loop.poll, wanted=streams and not self._busy)


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


def _alarm() -> Alarm | None:
    """Return an exact timer; None where the system has none."""
    try:
        return Alarm()
    except (OSError, AttributeError):
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

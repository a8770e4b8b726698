"""One loop over all readers of a process: polls, sweeps, checks time-outs, and wakes the users that wait."""

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from loadgen.clock import MS, Ns, now
from loadgen.wire.response_reader import ResponseReader

_SWEPT_AT_ONCE = 128
"""Lazy streams looked at in one sweep; where there are more, each is looked at that much less often. A look costs some
2 us, most of it for memory that is in no cache: this number keeps sweeps below 2 % of a core."""

_DUE_MS = 100
"""How often time-outs are checked."""

_READABLE = 1
"""EPOLLIN, and POLLIN."""


class Poller(Protocol):
    """``select.epoll``, or what stands in for it."""

    def register(self, fd: int, events: int) -> None:
        """Watch a descriptor."""

    def unregister(self, fd: int) -> None:
        """Watch it no longer."""

    def poll(self, timeout: float, maxevents: int) -> list[tuple[int, int]]:
        """Return ready descriptors, waiting up to ``timeout`` s."""


class ReadLoop:
    """The readers of a process. Reads those that are ready, and wakes the users whose responses have ended."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._readers: dict[int, ResponseReader] = {}
        self._wakes: dict[ResponseReader, Callable[[], None]] = {}
        self._sweeps: defaultdict[int, list[ResponseReader]] = defaultdict(list)
        """Lazy streams by the number of the sweep in which they are to be looked at."""
        self._sweep = 0
        self._polled_at: Ns | None = None
        self._dues_checked_at = Ns(0)
        self.polls = 0
        """Number of polls for sockets that are ready."""
        self.reads = 0
        """Number of sockets that were ready, over all polls."""

    def __len__(self) -> int:
        return len(self._readers)

    def add(self, reader: ResponseReader, wake: Callable[[], None]) -> None:
        """Begin to receive; ``wake`` is called once, when the response is over."""
        self._readers[reader.fd] = reader
        self._wakes[reader] = wake
        reader.become_lazy = self._drain_lazily
        self._poller.register(reader.fd, _READABLE)

    def remove(self, reader: ResponseReader) -> None:
        """Stop receiving, also in mid-answer."""
        if self._readers.get(reader.fd) is reader:
            del self._readers[reader.fd]
            self._poller.unregister(reader.fd)
        self._wakes.pop(reader, None)
        reader.over = True  # for the sweep, which may still hold it

    def poll(self, timeout: float = 0.0) -> None:
        """Read all sockets that are ready."""
        readers = self._readers
        lower = self._polled_at
        started = now()
        ready = self._poller.poll(timeout, len(readers) + 1)
        self.polls += 1
        self.reads += len(ready)
        for fd, _ in ready:
            reader = readers[fd]
            try:
                if reader.read_once(lower):
                    self._end(reader)
            except BlockingIOError:
                continue
            except Exception as bug:  # noqa: BLE001 raised where the response is waited for
                self._fail(reader, bug)
        self._polled_at = started

    def poll_if_older_than(self, age: int) -> None:
        """Read, if the last time is more than ``age`` ns ago."""
        if self._polled_at is None or now() - self._polled_at > age:
            self.poll()

    def sweep(self) -> None:
        """Look at the backlog of lazy streams and, now and then, whose time is up."""
        at = now()
        self._sweep += 1
        wanted = self._sweeps.pop(self._sweep, [])
        self._sweeps[self._sweep + 1] += wanted[_SWEPT_AT_ONCE:]
        for reader in wanted[:_SWEPT_AT_ONCE]:
            if reader.over:
                continue
            try:
                ended = reader.sweep(at)
            except Exception as bug:  # noqa: BLE001 raised where the response is waited for
                self._fail(reader, bug)
                continue
            if ended:
                self._end(reader)
            else:
                self._sweeps[self._sweep + reader.sweeps_off(at)].append(reader)
        if at - self._dues_checked_at >= _DUE_MS * MS:
            self._dues_checked_at = at
            for reader in [r for r in self._readers.values() if at >= r.due]:
                self._check_time(reader, at)

    def _check_time(self, reader: ResponseReader, at: Ns) -> None:
        try:
            reader.check_time(at)
        except Exception as bug:  # noqa: BLE001 raised where the response is waited for
            self._fail(reader, bug)
            return
        if reader.over:
            self._end(reader)

    def _drain_lazily(self, reader: ResponseReader) -> None:
        reader.drain_lazily()
        self._sweeps[self._sweep + 1].append(reader)

    def _fail(self, reader: ResponseReader, bug: Exception) -> None:
        """End a reader that an error in our code stops: raised in the loop it would be lost, and its user hang."""
        reader.bug = bug
        self._end(reader)

    def _end(self, reader: ResponseReader) -> None:
        wake = self._wakes[reader]
        self.remove(reader)
        wake()

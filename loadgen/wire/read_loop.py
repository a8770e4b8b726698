"""One loop over all receptions of a process: polls, sweeps, looks whose time is up, and wakes who waits."""

from collections import defaultdict
from typing import Protocol

from loadgen.clock import MS, Ns, now
from loadgen.wire.reception import Reception

_SWEPT_AT_ONCE = 128
"""Lazy streams looked at in one sweep; where there are more, each is looked at that much less often. A look costs some
2 us, most of it for memory that is in no cache: so many keep sweeps below 2 % of a core."""

_DUE_MS = 100
"""How often it is looked whose time is up."""

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
    """All receptions of a process: reads whichever are ready, wakes who waits for those that are over."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._receptions: dict[int, Reception] = {}
        self._sweeps: defaultdict[int, list[Reception]] = defaultdict(list)
        """Lazy streams by the number of the sweep in which they are to be looked at."""
        self._sweep = 0
        self._polled_at: Ns | None = None
        self._dues_checked_at = Ns(0)
        self.polls = 0
        """How often it was looked which sockets are ready."""
        self.reads = 0
        """How many were."""

    def __len__(self) -> int:
        return len(self._receptions)

    def add(self, reception: Reception) -> None:
        """Begin to receive."""
        self._receptions[reception.fd] = reception
        reception.become_lazy = self._drain_lazily
        self._poller.register(reception.fd, _READABLE)

    def remove(self, reception: Reception) -> None:
        """Stop receiving, also in mid-answer."""
        if self._receptions.get(reception.fd) is reception:
            del self._receptions[reception.fd]
            self._poller.unregister(reception.fd)
        reception.over = True  # for the sweep, which may still hold it

    def poll(self, timeout: float = 0.0) -> None:
        """Read all sockets that are ready."""
        receptions = self._receptions
        lower = self._polled_at
        started = now()
        ready = self._poller.poll(timeout, len(receptions) + 1)
        self.polls += 1
        self.reads += len(ready)
        for fd, _ in ready:
            reception = receptions[fd]
            try:
                if reception.take(lower):
                    self._end(reception)
            except BlockingIOError:
                continue
            except Exception as bug:  # noqa: BLE001 raised where the response is waited for
                self._fail(reception, bug)
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
        for reception in wanted[:_SWEPT_AT_ONCE]:
            if reception.over:
                continue
            try:
                ended = reception.sweep(at)
            except Exception as bug:  # noqa: BLE001 raised where the response is waited for
                self._fail(reception, bug)
                continue
            if ended:
                self._end(reception)
            else:
                self._sweeps[self._sweep + reception.sweeps_off(at)].append(reception)
        if at - self._dues_checked_at >= _DUE_MS * MS:
            self._dues_checked_at = at
            for reception in [r for r in self._receptions.values() if at >= r.due]:
                self._check_time(reception, at)

    def _check_time(self, reception: Reception, at: Ns) -> None:
        try:
            reception.check_time(at)
        except Exception as bug:  # noqa: BLE001 raised where the response is waited for
            self._fail(reception, bug)
            return
        if reception.over:
            self._end(reception)

    def _drain_lazily(self, reception: Reception) -> None:
        reception.drain_lazily()
        self._sweeps[self._sweep + 1].append(reception)

    def _fail(self, reception: Reception, bug: Exception) -> None:
        """End a reception that an error of ours stops: raised in the loop it would be lost, and its user wait on."""
        reception.bug = bug
        self._end(reception)

    def _end(self, reception: Reception) -> None:
        self.remove(reception)
        reception.wake()

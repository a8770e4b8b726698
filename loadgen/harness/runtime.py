"""Tasks, events and the clock of a run, by gevent."""

from collections.abc import Callable

import gevent
from gevent.event import Event

from loadgen.clock import Ns, now


class GeventTask:
    """A greenlet."""

    def __init__(self, greenlet: gevent.Greenlet) -> None:
        self._greenlet = greenlet

    def cancel(self) -> None:
        """Have it end where it waits; returns at once. Called from within it, does nothing."""
        if self._greenlet is not gevent.getcurrent():
            self._greenlet.kill(block=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if the time (seconds) ran out first, or if it is the present one."""
        if self._greenlet is not gevent.getcurrent():
            self._greenlet.join(timeout)
        return bool(self._greenlet.ready())


class GeventRuntime:
    """Implements :class:`loadgen.run.runtime.Runtime`."""

    def spawn(self, action: Callable[[], object]) -> GeventTask:
        """Start a greenlet."""
        return GeventTask(gevent.spawn(action))

    def event(self) -> Event:
        """Return a new event that is not set."""
        return Event()

    def sleep(self, seconds: float) -> None:
        """Let other greenlets go on for a time."""
        gevent.sleep(seconds)

    def now(self) -> Ns:
        """Return the monotonic time, ns."""
        return now()

"""Tasks, events and the clock of a run, by gevent."""

from collections.abc import Callable

import gevent
from gevent.event import Event

from loadgen.clock import Ns, now


class GeventTask:
    """A greenlet."""

    def __init__(self, greenlet: gevent.Greenlet) -> None:
        self._greenlet = greenlet

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._greenlet.ready())

    def cancel(self) -> None:
        """End it where it waits; called from within it, does nothing."""
        if self._greenlet is not gevent.getcurrent():
            self._greenlet.kill()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if the time (seconds) ran out first."""
        self._greenlet.join(timeout)
        return self.done


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

"""What a run needs of its surroundings in order to wait and to do several things at a time.

The harness implements it with gevent. The tests implement it with virtual time, so that a run of an hour takes
milliseconds and always goes the same way. The control flow of a run waits only through this interface.
"""

from collections.abc import Callable
from typing import Protocol

from loadgen.clock import SECOND, Ns


class Task(Protocol):
    """An action that goes on next to others."""

    def cancel(self) -> None:
        """Have it end where it waits; returns at once. What it was woken for before is still done first.

        Does nothing to a task that has ended, or that calls this itself.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if the time (seconds) ran out first."""


class Event(Protocol):
    """A flag that others can wait for."""

    def set(self) -> None:
        """Wake all that wait."""

    def clear(self) -> None:
        """Let those that come from now on wait."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if the time (seconds) ran out first."""


class Runtime(Protocol):
    """Tasks, events and the clock. Tasks are cooperative: they change places only where one of them waits."""

    def spawn(self, action: Callable[[], object]) -> Task:
        """Start a task. An exception that leaves it is only logged."""

    def event(self) -> Event:
        """Return a new event that is not set."""

    def sleep(self, seconds: float) -> None:
        """Let others go on for a time."""

    def now(self) -> Ns:
        """Return the monotonic time, ns."""


class TaskGroup:
    """Tasks that are ended together. Its length is the number of those that have not ended."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._tasks: dict[int, Task] = {}
        self._spawned = 0

    def __len__(self) -> int:
        """Return how many have not ended."""
        return len(self._tasks)

    def spawn(self, action: Callable[[], object]) -> Task:
        """Start a task of this group."""
        number = self._spawned
        self._spawned += 1

        def act() -> None:
            try:
                action()
            finally:
                self._tasks.pop(number, None)

        task = self._tasks[number] = self._runtime.spawn(act)
        return task

    def cancel(self) -> None:
        """End all of them, and return once they have ended."""
        tasks = list(self._tasks.items())
        for _, task in tasks:
            task.cancel()
        for number, task in tasks:
            task.wait()
            self._tasks.pop(number, None)  # one that had not begun has not removed itself


def wait_until(runtime: Runtime, condition: Callable[[], bool], timeout: float, *, every: float = 0.02) -> bool:
    """Wait until a condition holds; False if the time (seconds) ran out first."""
    due = runtime.now() + timeout * SECOND
    while not condition():
        if runtime.now() >= due:
            return False
        runtime.sleep(every)
    return True

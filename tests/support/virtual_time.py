"""A runtime with virtual time: tasks are greenlets, and the clock jumps to the next time at which one has to go on.

It always goes the same way: tasks that are due at the same time go on in the order in which they were scheduled. Each
:class:`Process` has a clock and tasks of its own; it can be frozen, as by SIGSTOP, or killed, as by SIGKILL.
"""

import heapq
from collections.abc import Callable
from itertools import count

from greenlet import GreenletExit, getcurrent, greenlet

from loadgen.clock import SECOND, Ns

START_NS = Ns(1000 * SECOND)

LONGEST_S = 7200
"""A function that has not returned after this virtual time waits for what never happens."""

_killed: list["Task"] = []
"""Tasks of killed processes, kept: collected as garbage, they would run their ``finally`` blocks."""


class DeadlockError(AssertionError):
    """Every task waits for another one."""


class World:
    """Several processes and the one virtual time that goes on for all of them."""

    def __init__(self) -> None:
        self.time = START_NS
        self.processes: list[Process] = []
        self.errors: list[BaseException] = []
        """Exceptions that left a task; gevent would only log them."""
        self._queue: list[tuple[int, int, Task, int | None]] = []
        self._order = count()
        self._hub = greenlet(self._loop)
        self._main: Task | None = None
        self._ends_at = 0

    def process(self, name: str, clock_offset_ns: int = 0) -> "Process":
        """Return a new process, whose clock shows that much more than the first one's."""
        process = Process(self, name, clock_offset_ns)
        self.processes.append(process)
        return process

    def run(self, process: "Process", main: Callable[[], object]) -> None:
        """Run a function as a task of a process, and everything that it starts, until it returns; raise what it raises.

        Raises DeadlockError if it waits for what never happens.
        """
        self._main = task = process.spawn(main)
        self._ends_at = self.time + LONGEST_S * SECOND
        self._hub = greenlet(self._loop)
        self._hub.switch()
        if task.error is not None:
            raise task.error
        if not task.done:
            raise DeadlockError(f"it does not end; these tasks wait: {self.waiting}")

    @property
    def waiting(self) -> list[str]:
        """Return the tasks of living processes that have not ended."""
        return [f"{p.name}: {t.name}" for p in self.processes if not p.is_killed for t in p.tasks if not t.done]

    def schedule(self, task: "Task", at: int) -> None:
        """Let a task go on at a time, unless it has gone on before."""
        heapq.heappush(self._queue, (max(at, self.time), next(self._order), task, task.waits))

    def schedule_end(self, task: "Task") -> None:
        """Let a task end where it then waits, after all that is due now: as gevent does it."""
        heapq.heappush(self._queue, (self.time, next(self._order), task, None))

    def park(self) -> None:
        """Let others go on until the present task is due."""
        self._hub.switch()

    def _loop(self) -> None:
        while self._queue and not (self._main is not None and self._main.done):
            at, _, task, waits = heapq.heappop(self._queue)
            if task.done or waits not in {None, task.waits} or task.process.is_killed:
                continue  # it has gone on meanwhile, for another reason
            if task.process.is_frozen:
                task.process.missed.append((task, waits))
                continue
            self.time = Ns(max(at, self.time))
            if self.time > self._ends_at:
                return
            task.go_on(ends=waits is None)


class Process:
    """A :class:`loadgen.run.runtime.Runtime`: the tasks of one process, by its own clock."""

    def __init__(self, world: World, name: str, clock_offset_ns: int) -> None:
        self.world = world
        self.name = name
        self.tasks: list[Task] = []
        self.missed: list[tuple[Task, int | None]] = []
        """Tasks that would have gone on while it was frozen, each with its ``waits``."""
        self.is_frozen = self.is_killed = False
        self._clock_offset_ns = clock_offset_ns

    def spawn(self, action: Callable[[], object]) -> "Task":
        """Start a task."""
        task = Task(self, action)
        self.tasks = [t for t in self.tasks if not t.done] + [task]
        self.world.schedule(task, self.world.time)
        return task

    def event(self) -> "Event":
        """Return a new event that is not set."""
        return Event(self.world)

    def sleep(self, seconds: float) -> None:
        """Let others go on for a time."""
        task = current()
        task.waits += 1
        self.world.schedule(task, self.world.time + int(seconds * SECOND))
        self.world.park()

    def now(self) -> Ns:
        """Return the time by this process's clock, ns."""
        return Ns(self.world.time + self._clock_offset_ns)

    def freeze(self) -> None:
        """Let none of its tasks go on."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Let its tasks go on."""
        self.is_frozen = False
        missed, self.missed = self.missed, []
        for task, waits in missed:
            if waits is None:
                self.world.schedule_end(task)
            elif waits == task.waits:
                self.world.schedule(task, self.world.time)

    def kill(self) -> None:
        """End it at once: none of its tasks goes on."""
        self.is_killed = True
        _killed.extend(self.tasks)


class Task:
    """A greenlet of a process."""

    def __init__(self, process: Process, action: Callable[[], object]) -> None:
        self.process = process
        self.name = getattr(action, "__qualname__", repr(action))
        self.done = False
        self.error: BaseException | None = None
        self.waits = 0
        """How many times it has waited, or been woken: what was scheduled before is out of date."""
        self._action = action
        self._ended = Event(process.world)
        self._greenlet: greenlet | None = None

    def cancel(self) -> None:
        """Have it end where it waits; called from within it, does nothing."""
        if self.done or self is current():
            return
        if self._greenlet is None:
            self._end()
        else:
            self.process.world.schedule_end(self)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; False if the time ran out first, or if it is the present one."""
        return self is not current() and self._ended.wait(timeout)

    def wake(self) -> None:
        """Let it go on at once."""
        self.waits += 1
        self.process.world.schedule(self, self.process.world.time)

    def go_on(self, *, ends: bool) -> None:
        """Go on, or end, where it waits; called by the world's loop."""
        if self._greenlet is None:
            self._greenlet = greenlet(self._run)
            _tasks[self._greenlet] = self
        self._greenlet.parent = getcurrent()  # where it goes when it ends: each run of the world has another loop
        if ends:
            self._greenlet.throw(GreenletExit)
        else:
            self._greenlet.switch()

    def _run(self) -> None:
        try:
            self._action()
        except GreenletExit:
            pass
        except BaseException as error:  # noqa: BLE001 the test looks at it
            self.error = error
            self.process.world.errors.append(error)
        finally:
            del _tasks[getcurrent()]
            self._end()

    def _end(self) -> None:
        self.done = True
        self._ended.set()


_tasks: dict[greenlet, Task] = {}


def current() -> Task:
    """Return the task that is going on."""
    return _tasks[getcurrent()]


class Event:
    """A flag that tasks can wait for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False
        self._waiting: list[Task] = []

    def set(self) -> None:
        """Wake all that wait."""
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.wake()

    def clear(self) -> None:
        """Let those that come from now on wait."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set; False if the time (seconds) ran out first."""
        if self._is_set:
            return True
        task = current()
        task.waits += 1
        self._waiting.append(task)
        if timeout is not None:
            self._world.schedule(task, self._world.time + int(timeout * SECOND))
        try:
            self._world.park()
        finally:
            if task in self._waiting:
                self._waiting.remove(task)
        return self._is_set

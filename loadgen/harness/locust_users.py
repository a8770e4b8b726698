"""The number of Locust's users, over all processes; only those of our classes make the load."""

from collections import Counter

from gevent.event import Event
from locust.dispatch import UsersDispatcher
from locust.runners import LocalRunner, MasterRunner, WorkerNode

from loadgen.errors import OptionError
from loadgen.harness.user_classes import ours

START_S = 30.0
"""Locust has this long to start the users of a step."""

_PER_DISPATCH = 100
"""Users that Locust starts at a time in each process; beyond it, it warns."""


class LocustUsers:
    """Sets how many users Locust has."""

    def __init__(self, runner: LocalRunner | MasterRunner, spawn_rate: float | None) -> None:
        self.spawn_rate = spawn_rate
        """Users/s as asked for by ``--spawn-rate`` or the web form; None if it was not given."""
        self.is_setting = False
        """Whether it is us who change the number of users now."""
        self._runner = runner
        self._started = Event()

    @property
    def wanted(self) -> int:
        """How many users of our classes Locust has been asked for."""
        return self.ours_of(int(self._runner.target_user_count))

    def ours_of(self, total: int) -> int:
        """Return how many of ``total`` users are of our classes, as Locust distributes them over its classes."""
        return sum(self.by_process(total, 1))

    def by_process(self, total: int, processes: int) -> list[int]:
        """Return how many users of our classes each process gets, of ``total`` in all."""
        classes = self._runner.environment.user_classes
        if len(ours(classes)) == len(classes) and not any(c.fixed_count for c in classes):
            return evenly(total, processes)
        return [sum(users[c.__name__] for c in ours(classes)) for users in self._dispatched(total, processes)]

    def total_for(self, users: int) -> int:
        """Return how many users Locust needs, so that this many are of our classes; raises OptionError if none do."""
        most = users * max(1, len(self._runner.environment.user_classes)) * 100
        total = users
        while self.ours_of(total) < users and total <= most:
            total += users - self.ours_of(total)
        if self.ours_of(total) != users:
            raise OptionError(
                f"{users} users cannot be started: 'weight' and 'fixed_count' of the user classes do not allow that "
                "number. Leave them out, or start fewer users."
            )
        return total

    def expect_start(self) -> None:
        """Note that Locust is about to start the users of a run."""
        self._started.clear()

    def note_started(self) -> None:
        """Note that Locust has started all that it was asked for."""
        self._started.set()

    def set(self, users: int) -> None:
        """Have that many users of our classes; returns when Locust has started them."""
        total = self.total_for(users)
        self._started.wait(START_S)  # the first ones: starting more meanwhile would undo it
        if self._runner.user_count == total:
            return
        self._started.clear()
        rate = max(1, min(total, _PER_DISPATCH * max(1, self._runner.worker_count)))
        self.is_setting = True
        try:
            self._runner.start(total, float(rate))
        finally:
            self.is_setting = False
        self._started.wait(START_S)

    def _dispatched(self, total: int, processes: int) -> list[Counter[str]]:
        """Return how many users of each class Locust starts in each process, of ``total`` in all."""
        nodes = [WorkerNode(str(number)) for number in range(processes)]
        dispatcher = UsersDispatcher(nodes, list(self._runner.environment.user_classes))
        dispatcher.new_dispatch(total, max(1, total))
        return [Counter(users) for users in next(dispatcher).values()]


def evenly(total: int, processes: int) -> list[int]:
    """Return how many of ``total`` users each process gets where all users are alike."""
    return [len(range(number, total, processes)) for number in range(processes)]

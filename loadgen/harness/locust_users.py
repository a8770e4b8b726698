"""The number of Locust's users, over all processes."""

from gevent.event import Event
from locust.runners import LocalRunner, MasterRunner

START_S = 30.0
"""Locust has this long to start the users of a step."""

_PER_DISPATCH = 100
"""Users that Locust starts at a time in each process; beyond it, it warns."""


class LocustUsers:
    """Sets how many users Locust has."""

    def __init__(self, runner: LocalRunner | MasterRunner, spawn_rate: float | None) -> None:
        self.spawn_rate = spawn_rate
        """Users/s as asked for by ``--spawn-rate`` or the web form; None if it was not given."""
        self._runner = runner
        self._started = Event()

    @property
    def wanted(self) -> int:
        """How many Locust has been asked for."""
        return int(self._runner.target_user_count)

    def expect_start(self) -> None:
        """Note that Locust is about to start the users of a run."""
        self._started.clear()

    def note_started(self) -> None:
        """Note that Locust has started all that it was asked for."""
        self._started.set()

    def set(self, users: int) -> None:
        """Have that many users; returns when Locust has started them."""
        self._started.wait(START_S)  # the first ones: starting more meanwhile would undo it
        if self._runner.user_count == users:
            return
        self._started.clear()
        rate = max(1, min(users, _PER_DISPATCH * max(1, self._runner.worker_count)))
        self._runner.start(users, float(rate))
        self._started.wait(START_S)

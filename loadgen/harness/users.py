"""The Locust users of a run."""

from typing import ClassVar

from locust import User
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser

from loadgen.harness.process import process_of
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.model import LoadModel
from loadgen.run.load.open_loop import OpenLoop
from loadgen.run.load.sweep import Sweep
from loadgen.run.share import RunShare
from loadgen.run.users import ClosedLoopClient, send_on_schedule

_FLOW_CONTROL = (StopUser, StopTest, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately)
"""Locust's exceptions by which a listener ends or moves a user."""


class OurUser(User):
    """What users of all load models have in common."""

    abstract = True
    load_model: ClassVar[type[LoadModel]]
    load_models: ClassVar[set[type[LoadModel]]] = set()
    """Those of all user classes that can be started."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("abstract", False):
            OurUser.load_models.add(cls.load_model)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.process = process_of(environment)

    @property
    def share(self) -> RunShare:
        """The process's share of the run; raises StopUser if there is no run."""
        if self.process.share is None:
            raise StopUser
        return self.process.share


class ClosedLoopUser(OurUser):
    """A user who waits for an answer before the next question; derive one and give it a task.

    When the run has no more requests to make, the user stops.
    """

    abstract = True
    load_model: ClassVar[type[LoadModel]] = ClosedLoop

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._client = None if self.process.share is None else self._new_client()

    def ask_next_prompt(self) -> None:
        """Send the next prompt of the run and record what becomes of it."""
        if self._client is None:
            self._client = self._new_client()
        if not self._client.ask_next_prompt():
            raise StopUser

    def on_stop(self) -> None:
        """Close what the client keeps open."""
        if self._client is not None:
            self._client.close()

    def _new_client(self) -> ClosedLoopClient:
        return ClosedLoopClient(self.share, self.process, self.process.runtime, _FLOW_CONTROL)


class SweepUser(ClosedLoopUser):
    """A closed-loop user; each step of ``--steps`` has more of them."""

    abstract = True
    load_model = Sweep


class OpenLoopUser(OurUser):
    """Sends requests at the times of a schedule, whatever has become of those before; one for each process.

    Locust's own waits are none of this: they begin when an answer is there, so a server that stalls is asked less.
    """

    abstract = True
    load_model = OpenLoop

    def ask_on_schedule(self) -> None:
        """Send this process's share of the schedule, then wait for the end of the run."""
        send_on_schedule(self.share, self.process, _FLOW_CONTROL)
        raise StopUser

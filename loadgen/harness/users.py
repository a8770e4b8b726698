"""The users of a run, as Locust starts them."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import gevent
from locust import User
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser

from loadgen.harness.load_kind import LoadKind
from loadgen.harness.part import Part
from loadgen.harness.process import Sender, process_of
from loadgen.protocol.job import Job
from loadgen.record import Outcome, RequestRecord

AFTER_REFUSAL_S = 0.25
"""A user's pause after a connection that could not be opened."""

_NO_CONNECTION = {Outcome.REFUSED, Outcome.DNS, Outcome.TLS}


class OurUser(User):
    """What users of all kinds have in common."""

    abstract = True
    kind: ClassVar[LoadKind]
    kinds: ClassVar[set[LoadKind]] = set()
    """Of all users that have been defined and can be started."""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 whatever Locust's takes
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("abstract", False):
            OurUser.kinds.add(cls.kind)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.process = process_of(environment)

    @property
    def part(self) -> Part:
        """The run's part that this process makes; raises StopUser where there is no run."""
        if self.process.part is None:
            raise StopUser
        return self.process.part

    def _send(self, client: Sender, job: Job, part: Part, keep: Callable[[RequestRecord], None]) -> None:
        """Send a request; what our own code raises meanwhile ends the run, and this user."""
        try:
            client.send(job, keep)
        except (StopUser, StopTest, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately):  # a listener's wish
            raise
        except Exception as error:  # noqa: BLE001 logged once, there
            part.give_up(job)
            self.process.note_bug(error)
            raise StopUser from None


class ClosedLoopUser(OurUser):
    """A user who waits for an answer before the next question; derive one and give it a task.

    When the run has no more requests to make, the user stops.
    """

    abstract = True
    kind = LoadKind.CLOSED

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._client = self.process.new_client()
        self._unreachable = False
        self._number = self.process.part.enrol() if self.process.part is not None else 0

    def ask_next_prompt(self) -> None:
        """Send the next prompt of the run and record what becomes of it."""
        part = self.part
        job = part.next_job(self._number)
        if job is None or self._client is None:
            raise StopUser
        self._send(self._client, job, part, partial(self._keep, part))
        if self._unreachable:
            # A server that is gone would be asked thousands of times a second.
            gevent.sleep(AFTER_REFUSAL_S)

    def _keep(self, part: Part, record: RequestRecord) -> None:
        self._unreachable = record.outcome in _NO_CONNECTION
        part.keep(record)

    def on_stop(self) -> None:
        """Close what the client keeps open."""
        if self._client is not None:
            self._client.close()


class RampedUser(ClosedLoopUser):
    """The same, of whom there are more with each step of ``--steps``."""

    abstract = True
    kind = LoadKind.RAMP


class OpenLoopUser(OurUser):
    """Sends requests at the times of a schedule, whatever has become of those before; one for each process.

    Locust's own waits are none of this: they begin when an answer is there, so a server that stalls is asked less.
    """

    abstract = True
    kind = LoadKind.OPEN

    def ask_on_schedule(self) -> None:
        """Send this process's part of the schedule, then wait for the end of the run."""
        part = self.part
        most = len(range(part.orders.shard, part.scenario.max_in_flight, part.orders.shards))
        for job in part.arrivals():
            if len(part.requests) >= most:
                part.drop(job, f"{part.scenario.max_in_flight} requests were in flight (--max-in-flight)")
            else:
                part.requests.spawn(self._ask, part, job)
        part.sent_all()
        part.wait_for_release()
        raise StopUser

    def _ask(self, part: Part, job: Job) -> None:
        client = self.process.new_client()
        assert client is not None
        try:
            self._send(client, job, part, part.keep)
        except StopUser:  # that is for a user's own greenlet
            return
        finally:
            client.close()

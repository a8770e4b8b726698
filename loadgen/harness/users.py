"""The users of a run, as Locust starts them."""

from functools import partial
from typing import Any, ClassVar

import gevent
from locust import User
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser

from loadgen.harness.load_kind import LoadKind
from loadgen.harness.part import Part
from loadgen.harness.process import Sender, process_of
from loadgen.record import Outcome, RequestRecord
from loadgen.request import Request

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

    def _send(self, client: Sender, request: Request, part: Part) -> None:
        """Send a request and note what became of it; what our code raises meanwhile ends the run, and this user."""
        try:
            part.note_result(request, client.send(request))
        except (StopUser, StopTest, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately):  # a listener's wish
            raise
        except Exception as error:  # noqa: BLE001 logged once, there
            part.give_up(request)
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
        self._client: Sender | None = None
        self._unreachable = False
        self._number = None if self.process.part is None else self.process.part.enrol()

    def ask_next_prompt(self) -> None:
        """Send the next prompt of the run and record what becomes of it."""
        part = self.part
        if self._number is None:
            self._number = part.enrol()
        request = part.next_request(self._number)
        if self._client is None:
            self._client = self.process.new_client(partial(self._keep, part))
        if request is None or self._client is None:
            raise StopUser
        self._send(self._client, request, part)
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


class SweepUser(ClosedLoopUser):
    """A closed-loop user; each step of ``--steps`` has more of them."""

    abstract = True
    kind = LoadKind.SWEEP


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
        for request in part.arrivals():
            if len(part.requests) >= most:
                part.drop(request, f"{part.scenario.max_in_flight} requests were in flight (--max-in-flight)")
            else:
                part.requests.spawn(self._ask, part, request)
        part.sent_all()
        part.wait_for_release()
        raise StopUser

    def _ask(self, part: Part, request: Request) -> None:
        client = self.process.new_client(part.keep)
        assert client is not None
        try:
            self._send(client, request, part)
        except StopUser:  # that is for a user's own greenlet
            return
        finally:
            client.close()

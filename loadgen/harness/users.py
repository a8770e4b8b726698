"""The users of a run, as Locust starts them."""

from functools import partial

import gevent
from locust import User
from locust.env import Environment
from locust.exception import StopUser

from loadgen.harness.run import Run
from loadgen.harness.session import session_of
from loadgen.record import Outcome, RequestRecord

AFTER_REFUSAL_S = 0.25
"""A user's pause after a connection that could not be opened."""

_NO_CONNECTION = {Outcome.REFUSED, Outcome.DNS, Outcome.TLS}


class ClosedLoopUser(User):
    """A user who waits for an answer before the next question; derive one and give it a task.

    When the run has no more requests to make, the user stops.
    """

    abstract = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._session = session_of(environment)
        self._client = self._session.new_client()
        self._unreachable = False
        self._number = self._session.run.enrol() if self._session.run is not None else 0

    def ask_next_prompt(self) -> None:
        """Send the next prompt of the run and record what becomes of it."""
        run = self._session.run
        job = run.next_job(self._number) if run is not None else None
        if run is None or job is None or self._client is None:
            raise StopUser
        self._client.send(job, partial(self._keep, run))
        if self._unreachable:
            # A server that is gone would be asked thousands of times a second.
            gevent.sleep(AFTER_REFUSAL_S)

    def _keep(self, run: Run, record: RequestRecord) -> None:
        self._unreachable = record.outcome in _NO_CONNECTION
        run.keep(record)

    def on_stop(self) -> None:
        """Close what the client keeps open."""
        if self._client is not None:
            self._client.close()

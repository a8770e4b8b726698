"""The users of a run, as Locust starts them."""

from locust import User
from locust.env import Environment
from locust.exception import StopUser

from loadgen.harness.session import session_of


class ClosedLoopUser(User):
    """A user who waits for an answer before the next question; derive one and give it a task.

    When the run has no more requests to make, the user stops.
    """

    abstract = True

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._session = session_of(environment)
        self._client = self._session.new_client()
        self._number = self._session.run.enrol() if self._session.run is not None else 0

    def ask_next_prompt(self) -> None:
        """Send the next prompt of the run and record what becomes of it."""
        run = self._session.run
        job = run.next_job(self._number) if run is not None else None
        if run is None or job is None or self._client is None:
            raise StopUser
        self._client.send(job, run.keep)

    def on_stop(self) -> None:
        """Close what the client keeps open."""
        if self._client is not None:
            self._client.close()

"""Who sets the number of Locust's users: a run, or the LoadTestShape of its locustfile.

The command line, the form of the web UI, its EDIT, keys in the terminal and programs all end in ``Runner.start``, which
asks here first. A sweep and an open loop begin with the users that their options say; while a run goes on, only it and
a shape may change their number, as its figures are of a constant one.
"""

import gevent
from locust.runners import LocalRunner, MasterRunner

from loadgen.errors import OptionError
from loadgen.harness.locust_users import LocustUsers
from loadgen.run.controller import RunController
from loadgen.run.load.model import LoadModel
from loadgen.scenario import Scenario

USERS_BELONG_TO_RUN = (
    "The number of users cannot be changed during a run, as its figures are of a constant number: start another run, "
    "or describe the change by a LoadTestShape."
)


class UserGuard:
    """Decides about each change of the number of users."""

    def __init__(self, runner: LocalRunner | MasterRunner, users: LocustUsers) -> None:
        self._runner, self._users = runner, users

    def refusal(self, run: RunController | None, total: int) -> str | None:
        """Return why Locust may not have ``total`` users now, None if it may; ``run`` is the present one."""
        if run is None or self._users.is_setting or total == self._runner.target_user_count:
            return None
        if self.is_shape:
            run.load.users_change()
            return None
        return f"{USERS_BELONG_TO_RUN} It has {run.manifest.users}."

    def first_users(self, load_model: type[LoadModel], scenario: Scenario, asked: int | None) -> int | None:
        """Return how many users Locust begins with, where ``asked`` is what somebody wants; raises OptionError."""
        users = load_model.first_users(scenario, asked)
        return users if users is None or load_model.user_option is None else self._users.total_for(users)

    def users_at_start(self, *, is_debugger: bool) -> int:
        """Return how many users of our classes a run begins with; raises OptionError if there are none.

        ``is_debugger``: there may be a single user that runs without the runner.
        """
        if is_debugger and not self._runner.target_user_count:
            return 1
        users = self._users.wanted
        if not users:
            raise OptionError(
                f"none of the {self._runner.target_user_count} users asks the endpoint: start more users, or name a "
                "class that is derived from LLMUser."
            )
        return users

    @staticmethod
    def check_typed(load_model: type[LoadModel], typed: str | None, shown: int | None) -> None:
        """Raise OptionError for a number of users that was typed in a form where it has no effect.

        ``shown``: what the form had in the field, which it always sends.
        """
        if load_model.user_option is not None and typed and typed != str(shown or 1):
            way = load_model.user_option
            raise OptionError(f"The number of users has no effect with {load_model.locustfile}: set {way}.")

    @property
    def is_shape(self) -> bool:
        """Whether the present greenlet is that of a LoadTestShape."""
        return self._runner.shape_greenlet is not None and gevent.getcurrent() is self._runner.shape_greenlet

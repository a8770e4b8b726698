"""Who sets the number of Locust's users: a run, or the LoadTestShape of its locustfile.

The command line, the form of the web UI, its EDIT, keys in the terminal and programs all end in ``Runner.start``, which
asks here first. A sweep and an open loop begin with the users that their options say; while a run goes on, only it and
a shape may change their number, as its figures are of a constant one.
"""

import gevent
from locust.runners import LocalRunner, MasterRunner

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

    @property
    def is_shape(self) -> bool:
        """Whether the present greenlet is that of a LoadTestShape."""
        return self._runner.shape_greenlet is not None and gevent.getcurrent() is self._runner.shape_greenlet

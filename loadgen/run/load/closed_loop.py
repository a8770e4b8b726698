"""A closed loop: always the same users, each waiting for an answer before its next question."""

from collections.abc import Sequence
from typing import ClassVar

from loadgen.errors import OptionError
from loadgen.results.manifest import Kind
from loadgen.run.load.model import LoadModel, RunningLoad
from loadgen.scenario import Scenario

SPREAD_S = 2.0
"""First measured requests of users are spread over this time, unless ``--spawn-rate`` is given."""


class ClosedLoop(LoadModel):
    """The number of users is that of ``--users``, from the warm-up to the end."""

    title = "closed loop"
    locustfile = "locustfiles/chat.py"
    uses: ClassVar[tuple[str, ...]] = ("requests",)

    @classmethod
    def check_processes(cls, users: Sequence[int]) -> None:
        """Raise OptionError if a process would have no user, and so never make its share of the requests."""
        total, processes = sum(users), len(users)
        if total < processes:
            raise OptionError(
                f"--users {total} with {processes} workers (--processes {processes}, or --worker): each process needs "
                "a user. Give more users, or start fewer workers."
            )
        if not all(users):
            raise OptionError(
                f"of {processes} processes one would get no user that asks the endpoint: change --users, the 'weight' "
                "and 'fixed_count' of the user classes, or the number of processes."
            )

    @classmethod
    def first_users(cls, scenario: Scenario, users: int | None) -> int | None:
        """Return the users that were asked for."""
        del scenario
        return users

    @property
    def kind(self) -> Kind:
        """One user measures speed, several measure throughput."""
        return "speed" if self.users == 1 else "throughput"

    def play(self, load: RunningLoad) -> None:
        """Let the users make all planned requests."""
        spread_s = SPREAD_S if self.spawn_rate is None else self.users / self.spawn_rate
        load.start_step(step=None, users=self.users, spread_s=spread_s)
        while not load.all_done:
            load.wait()

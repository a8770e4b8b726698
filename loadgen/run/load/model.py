"""What a load model is, and what a running load offers to it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from loadgen.clock import Ns
from loadgen.errors import OptionError
from loadgen.live.live import LiveStats
from loadgen.measure.facts import Arrivals
from loadgen.printable import counted
from loadgen.record import RequestRecord
from loadgen.results.manifest import Kind, Manifest
from loadgen.run.warm_up import WarmUpResult
from loadgen.scenario import Scenario, flag

TICK_S = 0.5
"""A running load looks this often whether it can go on."""

WARM_UP_REQUESTS = 8
"""Requests at a time of a warm-up that no user makes."""


class LoadAborted(Exception):  # noqa: N818 the load was aborted, the code is right
    """The load cannot be applied any longer; the text says why."""


class Watcher(Protocol):
    """Follows the requests that end."""

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Take records; their times are on the controller's clock."""


@dataclass(frozen=True, slots=True)
class ConstantUsers:
    """A number of users that does not change."""

    users: int
    since: Ns


class RunningLoad(Protocol):
    """What a load model works with while it plays."""

    @property
    def manifest(self) -> Manifest:
        """The run's manifest; the model notes steps and schedules in it."""

    @property
    def live(self) -> LiveStats:
        """The live figures."""

    @property
    def warmed_up(self) -> WarmUpResult:
        """What the warm-up showed."""

    @property
    def constant_users(self) -> ConstantUsers | None:
        """How many users there are, and since when; None while their number changes."""

    @property
    def users_changed_ns(self) -> Ns:
        """When their number last began to change."""

    @property
    def processes(self) -> int:
        """Number of processes that make requests."""

    @property
    def all_done(self) -> bool:
        """Whether all processes have made what was planned."""

    @property
    def settled_ns(self) -> int:
        """Every request sent before this time has ended, and its record is here."""

    def now(self) -> Ns:
        """Return the time, ns."""

    def start_step(self, *, step: int | None, users: int, spread_s: float, epoch: Ns | None = None) -> None:
        """Let requests be sent, as part of a step with about ``users`` requests at a time.

        ``spread_s``: time over which first requests of new users are spread; ``epoch``: time 0 of a schedule.
        """

    def set_users(self, users: int) -> None:
        """Have that many users, over all processes; returns when they are there."""

    def follow(self, watcher: Watcher) -> None:
        """Pass requests that end to a watcher, in place of the one before."""

    def wait(self) -> None:
        """Wait until something is done, at most ``TICK_S``; raises LoadAborted if the load cannot go on."""

    def save(self) -> None:
        """Write the manifest."""


class LoadModel(ABC):
    """How the load of a run is applied.

    A subclass states which options are its own, checks them, says how many users it starts with and what results call
    it, and plays the load. User classes of locustfiles name theirs.
    """

    title: ClassVar[str]
    """What messages call it."""
    locustfile: ClassVar[str]
    """The locustfile that applies it, for messages."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Its own options: fields of the scenario, with the value that each has if it was not given."""
    uses: ClassVar[tuple[str, ...]] = ()
    """Fields of the scenario that it uses and that some other load model does not; a form offers them with it."""
    user_option: ClassVar[str | None] = None
    """The option by which it chooses the number of users itself; None if ``--users`` does."""

    def __init__(self, scenario: Scenario, users: int, spawn_rate: float | None) -> None:
        """Prepare to play; ``spawn_rate`` (users/s) is None if it was not given."""
        self.scenario = scenario
        self.users = users
        self.spawn_rate = spawn_rate

    @classmethod
    def check(cls, scenario: Scenario) -> None:
        """Raise OptionError for options that do not fit together."""
        del scenario

    @classmethod
    def check_processes(cls, users: Sequence[int]) -> None:
        """Raise OptionError if the load cannot be made with that many users in each process."""
        del users

    @classmethod
    @abstractmethod
    def first_users(cls, scenario: Scenario, users: int | None) -> int | None:
        """Return how many Locust users the run starts with; ``users`` is the value of ``--users``."""

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What results call the run."""

    users_warm_up: ClassVar[bool] = True
    """Whether the first requests of the users are the warm-up; else it is sent before, by the process that conducts
    the run, :data:`WARM_UP_REQUESTS` requests at a time."""

    def planned_requests(self, run_time_s: float | None) -> int | None:
        """Return the number of requests to be measured; None if only time limits the run.

        ``--requests``, else each prompt of the sample once, else as many as ``--run-time`` allows.
        """
        if self.scenario.requests is not None:
            return self.scenario.requests
        return self.scenario.sample if run_time_s is None else None

    def end_announcement(self, run_time_s: float | None) -> str:
        """Return what will end the run, as a sentence."""
        ends = [] if (own := self.own_end(run_time_s)) is None else [own]
        if run_time_s is not None:
            ends.append(f"after {run_time_s:g} s (--run-time), the warm-up included")
        return f"The run ends {', or '.join(ends)}{', whichever is first' if len(ends) > 1 else ''}."

    def own_end(self, run_time_s: float | None) -> str | None:
        """Return when the load itself ends, as in ``after 100 requests``; None if only time limits it."""
        planned = self.planned_requests(run_time_s)
        if planned is None:
            return None
        why = "--requests" if self.scenario.requests is not None else "as many as the sample has prompts"
        return f"after {counted(planned, 'request')} ({why})"

    def arrivals(self) -> Arrivals | None:
        """Return the schedule that is asked for, None if there is none."""
        return None

    @abstractmethod
    def play(self, load: RunningLoad) -> None:
        """Apply the load from start to end; ``load.wait`` ends it early by raising LoadAborted."""

    def drained(self, load: RunningLoad) -> None:
        """Complete the manifest, once all requests have ended."""
        del load


def applies(name: str, model: type[LoadModel], models: Sequence[type[LoadModel]]) -> bool:
    """Return whether a field of the scenario has an effect with a load model."""
    return name in model.uses or not any(name in other.uses for other in models)


def check_options(model: type[LoadModel], scenario: Scenario, models: Sequence[type[LoadModel]]) -> None:
    """Raise OptionError for an option that has no effect with a load model: whoever gives it expects something else."""
    for other in models:
        for name, not_given in other.options.items():
            if name not in model.options and getattr(scenario, name) != not_given:
                raise OptionError(f"{flag(name)} has an effect only with {other.locustfile}.")
    model.check(scenario)

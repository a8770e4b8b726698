"""The Locust users of a run: what locustfiles derive their classes from."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from locust import TaskSet, User
from locust.env import Environment
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopTest, StopUser
from locust.user.task import LOCUST_STATE_STOPPING

from loadgen.harness.process import process_of
from loadgen.run.llm_client import Caller, LLMClient
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.model import LoadModel
from loadgen.run.load.open_loop import OpenLoop
from loadgen.run.load.sweep import Sweep
from loadgen.run.schedule_sender import send_on_schedule
from loadgen.run.share import FlowControl, RunShare

if TYPE_CHECKING:
    import gevent
    from gevent.pool import Group

_FLOW_CONTROL = FlowControl(
    ended=StopUser, passed_on=(StopUser, StopTest, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately)
)


class TaskExitedError(Exception):
    """A task called ``sys.exit``; only the run's end ends the process."""


class RunUser(User):
    """What users of all load models have in common."""

    abstract = True
    load_model: ClassVar[type[LoadModel]]
    defined: ClassVar[list[type["RunUser"]]] = []
    """All classes that can be started."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("abstract", False):
            RunUser.defined.append(cls)

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.process = process_of(environment)
        self._task_name: str | None = None

    @contextmanager
    def running(self, task: Callable[..., object]) -> Iterator[None]:
        """Name requests after a task while it runs, and count it; Locust's task sets are not counted themselves."""
        before, self._task_name = self._task_name, task.__name__
        if not (isinstance(task, type) and issubclass(task, TaskSet)) and self.process.share is not None:
            self.process.share.user_code.note_task()
        try:
            yield
        except SystemExit as error:  # gevent would end the process with it, without a verdict
            raise TaskExitedError(f"the task called sys.exit({error.code!r})") from None
        finally:
            self._task_name = before

    def stop(self, force: bool = False) -> bool:  # noqa: FBT001, FBT002 Locust's
        """Stop the user; returns whether it was stopped at once. Locust raises an error if it is asked twice."""
        if not force and self._state == LOCUST_STATE_STOPPING:
            return False
        return bool(super().stop(force))

    @property
    def share(self) -> RunShare:
        """The process's share of the run; raises StopUser if there is no run."""
        if self.process.share is None:
            raise StopUser
        return self.process.share


class LLMUser(RunUser):
    """A user who asks an LLM and waits for each answer before the next question. Derive one, and give it tasks.

    ``self.llm.chat(...)`` sends a request; ``self.llm.next_prompt()`` returns the next prompt of the run's sample.
    When the run has no more requests to make, the user stops. Options of the command line override the attributes.
    """

    abstract = True
    load_model: ClassVar[type[LoadModel]] = ClosedLoop
    model: str | None = None
    """Model to ask for."""
    dataset: str | None = None
    """Data set of the sample."""
    max_tokens: int | None = None
    """Longest answer, tokens."""
    temperature: float | None = None
    extra_body: Mapping[str, Any] | None = None
    """Further fields of each request's JSON body."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._llm: LLMClient | None = None
        if self.process.share is not None:
            self._llm = self._new_client(self.process.share)

    @property
    def llm(self) -> LLMClient:
        """The client that sends this user's requests; raises StopUser if there is no run."""
        if self._llm is None:
            self._llm = self._new_client(self.share)
        return self._llm

    @property
    def client(self) -> LLMClient:
        """The client, by the name that it has in Locust's users."""
        return self.llm

    def start(self, group: "Group") -> "gevent.Greenlet":
        """Start the user; when it has ended, close what its client keeps open."""
        greenlet: gevent.Greenlet = super().start(group)
        greenlet.link(self._close)
        return greenlet

    def _close(self, _: "gevent.Greenlet") -> None:
        if self._llm is not None:
            self._llm.close()

    def _new_client(self, share: RunShare) -> LLMClient:
        return LLMClient(
            share,
            self.process,
            self.process.runtime,
            caller=Caller(type(self).__name__, lambda: self._task_name, self.context),
            flow_control=_FLOW_CONTROL,
        )


class SweepUser(LLMUser):
    """A user of a sweep: each step of ``--steps`` has more of them."""

    abstract = True
    load_model = Sweep


class OpenLoopUser(RunUser):
    """Sends requests at the times of a schedule, whatever has become of those before; one for each process.

    Locust's own waits cannot do this: they begin when an answer is there, so a server that stalls is asked less.
    """

    abstract = True
    load_model = OpenLoop

    def ask_on_schedule(self) -> None:
        """Send this process's share of the schedule, then wait for the end of the run."""
        send_on_schedule(self.share, self.process, _FLOW_CONTROL)
        raise StopUser

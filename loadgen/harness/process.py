"""What each Locust process of a run has, whether it conducts the run, makes its requests, or both."""

import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import gevent
from locust import TaskSet, User
from locust.env import Environment
from locust.runners import Runner

from loadgen.exit_status import ExitStatus
from loadgen.harness.forked import is_fork
from loadgen.harness.health import Health
from loadgen.harness.locust_tables import LocustTables
from loadgen.harness.runtime import GeventRuntime
from loadgen.harness.user_classes import is_ours, ours
from loadgen.harness.waiter import GeventWaiter
from loadgen.protocol.client import Client, Settings
from loadgen.record import RequestRecord
from loadgen.results.store import RecordFile
from loadgen.run.answer import ChatFailed
from loadgen.run.messages import RunAssignment
from loadgen.run.share import RunShare, Sender
from loadgen.scenario import Scenario
from loadgen.terminal_text import terminal_width, wrapped
from loadgen.wire.connection import new_socket

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

ERROR_PAUSE_S = 0.1
"""A user pauses this long after a task that raised before any request was sent."""

P = ParamSpec("P")


class LocustProcess(ABC):
    """A Locust process, its way to wait and to send, and its share of the present run.

    It is the :class:`~loadgen.run.share.ShareHost` of that share.
    """

    def __init__(self, environment: Environment, runner: Runner, options: Namespace) -> None:
        self.environment = environment
        self.options = options
        self.share: RunShare | None = None
        self.runtime = GeventRuntime()
        self.waiter = GeventWaiter()
        self._runner = runner
        self._settings: Settings | None = None
        self._tables: LocustTables | None = None
        self._sdk: openai.OpenAI | None = None
        # Receive stamps are switched on with a delay after the first socket that wants them: this one stays open.
        self._stamping = new_socket()

    @abstractmethod
    def set_exit_status(self, status: ExitStatus) -> None:
        """Set the status with which the process will end. A bug stays one."""

    @abstractmethod
    def report_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """End the run because code of ours failed; ``logged``: Locust has logged the traceback."""

    @abstractmethod
    def disk_full(self, error: OSError) -> None:
        """End the run because the disk does not take its records."""

    @abstractmethod
    def share_done(self) -> None:
        """Act on it that all planned requests have been made."""

    def users_for(self, total: int, spawn_rate: float) -> tuple[int, float] | str:
        """Return how many users Locust may have, and how many a second it starts; or why their number stays.

        A worker has what its master says.
        """
        return total, spawn_rate

    @abstractmethod
    def user_count(self) -> int | None:
        """Return how many users the process has; None if their number says nothing about the load."""

    def guard(self, action: Callable[P, object]) -> Callable[P, None]:
        """Return the action for a greenlet or for Locust: an exception that it raises ends the run.

        gevent and Locust only log it, and whoever waits for the action's effect would wait for ever.
        """

        @wraps(action)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                action(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 logged once, there
                self.report_bug(error)

        return guarded

    def spawn(self, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> gevent.Greenlet:
        """Start a greenlet; an exception that leaves it ends the run."""
        return gevent.spawn(self.guard(action), *args, **kwargs)

    def new_share(
        self, assignment: RunAssignment, scenario: Scenario, file: RecordFile, settings: Settings
    ) -> RunShare:
        """Return this process's share of a run; from now on users and clients belong to it."""
        self.share = RunShare(assignment, scenario, file, self, Health(), self.runtime)
        self._settings = settings
        self._tables = LocustTables(
            self.environment, settings.target.url, settings.route or settings.api.path(stream=scenario.stream)
        )
        self._sdk = _open_sdk(settings) if scenario.client == "openai" else None
        return self.share

    def new_client(self, keep: Callable[[RequestRecord], None]) -> Sender | None:
        """Return a client for one user, which hands its records to ``keep``; None if there is no run."""
        if self._settings is None:
            return None
        if self._sdk is None:
            return Client(self._settings, self.waiter, keep)
        from loadgen.protocol.openai_sdk import OpenAIClient

        return OpenAIClient(self._sdk, self._settings, self.waiter, keep)

    def show_record(self, record: RequestRecord, context: Mapping[str, object]) -> None:
        """Show a request in Locust's own tables; ``context``: what the user's ``context()`` returned."""
        if self._tables is not None:
            self._tables.show(record, context)

    def cancel_users(self) -> None:
        """End all users where they wait, and with them their requests in flight."""
        self._runner.user_greenlets.kill(block=True)

    def own_users(self) -> int:
        """Return how many users of our classes this process has."""
        classes = {user_class.__name__ for user_class in ours(self.environment.user_classes)}
        return sum(count for name, count in self._runner.user_classes_count.items() if name in classes)

    def note_user_error(self, raised_in: User | TaskSet, error: BaseException) -> None:
        """Count an exception that a task raised; ``raised_in``: its task set or user. Locust logs it and goes on."""
        user = raised_in.user if isinstance(raised_in, TaskSet) else raised_in
        is_ours_here = is_ours(type(user)) and user.environment is self.environment
        if self.share is not None and is_ours_here and not isinstance(error, ChatFailed):
            self.share.user_code.note_error(error)
            if self.share.source.is_scheduled:  # nobody else sends this process's share of the schedule
                self.share.source.end_of_schedule()
            if not self.share.source.started:  # else a wrong line fills the log with tracebacks before the run ends
                gevent.sleep(ERROR_PAUSE_S)

    def leave_run(self) -> None:
        """Have no share of a run any more."""
        if self.share is not None:
            self.share.close()
        self.share = self._settings = self._tables = self._sdk = None

    def on_interrupt(self, action: Callable[[], None]) -> None:
        """Turn SIGINT into an orderly end: as KeyboardInterrupt it would hit whichever greenlet runs, even a request's.

        A SIGINT that is ignored stays so.
        """
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda *_: self.spawn(action))

    def close(self) -> None:
        """Close what was open all the time."""
        self._stamping.close()


def say(text: str) -> None:
    """Print a sentence for the user, on a terminal broken between words; a terminal that is gone does not take it."""
    sentence, *log = f"loadgen: {text}".split("\n")
    if width := terminal_width(sys.stderr):
        sentence = wrapped(sentence, width, len("loadgen: "))
    with suppress(OSError):
        print(sentence, *log, sep="\n", file=sys.stderr, flush=True)  # noqa: T201


def end_when_told_to() -> None:
    """Let signals that end a process end this one in order, from the start.

    SIGTERM and SIGINT are replaced as soon as there is a run to end. SIGHUP, sent when a terminal is closed, is handled
    as SIGTERM is at the time. One that is ignored stays so: nohup ignores SIGHUP.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, lambda number, _: end_before_a_run(number))
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def end_before_a_run(number: int) -> None:
    """End the process at a signal that came before any run; raises SystemExit."""
    status = ExitStatus.INCONCLUSIVE
    if not is_fork():
        say(f"ended by {signal.Signals(number).name} before a run began; exit status {status:d}.")
    raise SystemExit(status)


def _open_sdk(settings: Settings) -> "openai.OpenAI":
    from loadgen.protocol.openai_sdk import open_sdk  # takes a second to import, and draws random numbers

    return open_sdk(settings)


_PROCESSES: dict[int, LocustProcess] = {}


def register(process: LocustProcess) -> None:
    """Make a process findable by its environment."""
    _PROCESSES[id(process.environment)] = process


def is_registered(environment: Environment) -> bool:
    """Whether an environment has a process."""
    return id(environment) in _PROCESSES


def process_of(environment: Environment) -> LocustProcess:
    """Return the process of an environment; one that no locust command has set up is set up now."""
    if not is_registered(environment):
        from loadgen.harness.library import set_up  # a process is part of it

        set_up(environment)
    return _PROCESSES[id(environment)]


def users_for(environment: Environment, total: int, spawn_rate: float) -> tuple[int, float] | str:
    """Return how many users Locust may have, and how many a second it starts; or why their number stays.

    A program's environment is set up now, before any of its users starts. Raises UsageError if it cannot be measured.
    """
    if not is_registered(environment) and not ours(environment.user_classes):
        return total, spawn_rate
    return process_of(environment).users_for(total, spawn_rate)

"""What each process of a run has, whether it conducts it, makes its requests, or both."""

import logging
import os
import signal
import sys
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Protocol

import gevent
from locust.env import Environment
from locust.runners import Runner

from loadgen.harness.forked import is_fork
from loadgen.harness.locust_tables import tell
from loadgen.harness.part import Part
from loadgen.harness.waiter import GeventWaiter
from loadgen.protocol.client import Client, Settings
from loadgen.protocol.completion import Exchange
from loadgen.record import RequestRecord
from loadgen.request import Request
from loadgen.wire.connection import new_socket

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

BUG = 1
"""Exit status for errors of ours."""

INVALID = 3
"""Exit status of a run that lost a process."""

INCONCLUSIVE = 4
"""Exit status of a run that was interrupted, and of a process that showed no verdict."""

P = ParamSpec("P")


class Sender(Protocol):
    """What users send through: our client, or the SDK's."""

    def send(self, request: Request) -> Exchange:
        """Make a request; return its record and the answer."""

    def close(self) -> None:
        """Close what is open."""


class Process(ABC):
    """A Locust process, its way to wait and to send, and its part in the run that goes on."""

    def __init__(self, environment: Environment, runner: Runner, options: Namespace) -> None:
        self.environment = environment
        self.options = options
        self.part: Part | None = None
        self.waiter = GeventWaiter()
        self._runner = runner
        self._settings: Settings | None = None
        self._sdk: openai.OpenAI | None = None
        # Receive stamps are switched on with a delay after the first socket that wants them: this one stays open.
        self._stamping = new_socket()

    @abstractmethod
    def note_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """End the run because code of ours raised; ``logged``: Locust has logged the traceback."""

    @abstractmethod
    def note_full_disk(self, error: OSError) -> None:
        """End the run because the disk does not take its records."""

    def guard(self, action: Callable[P, object]) -> Callable[P, None]:
        """Return the action for a greenlet or for Locust: what it raises ends the run.

        gevent and Locust only log it, and whoever waits for the action's effect would wait for ever.
        """

        @wraps(action)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                action(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 logged once, there
                self.note_bug(error)

        return guarded

    def spawn(self, action: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> gevent.Greenlet:
        """Start a greenlet; what it raises ends the run."""
        return gevent.spawn(self.guard(action), *args, **kwargs)

    def take_part(self, part: Part, settings: Settings) -> None:
        """Have a part in a run from now on."""
        part.on_full_disk = self.note_full_disk
        self.part, self._settings = part, settings
        self._sdk = _open_sdk(settings) if part.scenario.client == "openai" else None

    def new_client(self, keep: Callable[[RequestRecord], None]) -> Sender | None:
        """Return a client for one user, which hands its records to ``keep``; None if there is no run."""
        if self._settings is None:
            return None
        if self._sdk is None:
            return Client(self._settings, self.waiter, keep)
        from loadgen.protocol.openai_sdk import OpenAIClient

        return OpenAIClient(self._sdk, self._settings, self.waiter, keep)

    def show_in_tables(self, record: RequestRecord) -> None:
        """Show a request in Locust's own tables."""
        if self.part is not None and self._settings is not None:
            tell(self.environment, record, self._settings.api.path(stream=self.part.scenario.stream))

    def drain(self, timeout: float) -> None:
        """Make no more requests, wait for those in flight, and abort those that stay so; all get their records."""
        part = self.part
        if part is None:
            return
        part.finish()
        if not part.drained(timeout):
            logger.warning("%d requests still in flight: aborting them", len(part.in_flight))
            self.abort()

    def abort(self) -> None:
        """End all requests in flight."""
        self._runner.user_greenlets.kill(block=True)
        if self.part is not None:
            self.part.requests.kill(block=True)

    def leave(self) -> None:
        """Have no part in a run any more."""
        if self.part is not None:
            self.part.release()
            self.part.close()
        self.part = self._settings = self._sdk = None

    def on_interrupt(self, action: Callable[[], None]) -> None:
        """Turn SIGINT into an orderly end: as KeyboardInterrupt it would hit whichever greenlet runs, even a request's.

        Where it is ignored, that stays so.
        """
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, lambda *_: self.spawn(action))

    def close(self) -> None:
        """Close what was open all the time."""
        self._stamping.close()


def say(text: str) -> None:
    """Print a sentence for the user; a terminal that is gone does not take it."""
    with suppress(OSError):
        print(f"loadgen: {text}", file=sys.stderr, flush=True)  # noqa: T201


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
    if not is_fork():
        say(f"ended by {signal.Signals(number).name} before a run began; exit status {INCONCLUSIVE}.")
    raise SystemExit(INCONCLUSIVE)


def _open_sdk(settings: Settings) -> "openai.OpenAI":
    from loadgen.protocol.openai_sdk import open_sdk  # takes a second to import, and draws random numbers

    return open_sdk(settings)


_PROCESSES: dict[int, Process] = {}


def register(process: Process) -> None:
    """Make a process findable by its environment."""
    _PROCESSES[id(process.environment)] = process


def process_of(environment: Environment) -> Process:
    """Return the process of an environment; raises KeyError if it has none."""
    return _PROCESSES[id(environment)]

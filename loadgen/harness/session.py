"""What lives as long as the Locust process: the embedded engine, and one run after another."""

import logging
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import gevent
from locust.env import Environment
from locust.runners import STATE_INIT, STATE_RUNNING, STATE_SPAWNING, STATE_STOPPED, LocalRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from loadgen.harness.locust_tables import tell
from loadgen.harness.options import SPREAD_S, scenario_of
from loadgen.harness.prepare import Prepared, prepare
from loadgen.harness.run import Load, Run
from loadgen.harness.waiter import GeventWaiter
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import start_embedded
from loadgen.record import RequestRecord
from loadgen.results.summary import Summary, verdict_of
from loadgen.wire.client import Client, Settings
from loadgen.wire.connection import new_socket
from loadgen.wire.job import Job
from loadgen.wire.waiting import Waiter

logger = logging.getLogger(__name__)

_BUG = 1
"""Exit status for errors of ours."""


class Sender(Protocol):
    """What users send through: the own client, or the SDK's."""

    def send(self, job: Job, keep: Callable[[RequestRecord], None]) -> None:
        """Make a request and hand its record over."""

    def close(self) -> None:
        """Close what is open."""


class Session:
    """Joins Locust's life cycle to our runs."""

    def __init__(self, environment: Environment, runner: LocalRunner, options: Namespace) -> None:
        self.environment = environment
        self.options = options
        self.run: Run | None = None
        self._runner = runner
        self._engine: ChildServer | None = None
        self._prepared: Prepared | None = None
        self._sdk: Sender | None = None
        self._last: tuple[Summary, Path] | None = None
        self._interrupted = False
        self._spawn_rate: float | None = options.spawn_rate
        """As it was asked for; None if it was not."""
        self._waiter = GeventWaiter()
        # Receive stamps are switched on with a delay after the first socket that wants them: this one stays open.
        self._stamping = new_socket()

    @property
    def idle(self) -> bool:
        """Whether no run is going on."""
        return self._runner.state in {STATE_INIT, STATE_STOPPED}

    @property
    def ending(self) -> bool:
        """Whether a run is being ended."""
        return not self.idle and self._runner.state not in {STATE_RUNNING, STATE_SPAWNING}

    def ensure_host(self) -> None:
        """Start the embedded engine if no server was named; raises UsageError where it cannot run."""
        if self.environment.host:
            return
        if self._engine is None:
            logger.info("No --host: starting the embedded engine (llama.cpp, random weights)")
            self._engine = start_embedded()
        self.environment.host = self._engine.host

    def prepare(self, form: Mapping[str, str] | None = None) -> None:
        """Look at everything that may be wrong before a run; ``form`` is what was typed in the web UI.

        Raises UsageError.
        """
        scenario = scenario_of(self.options, form)
        if form is not None:
            self._spawn_rate = float(form["spawn_rate"]) if form.get("spawn_rate") else None
            self.environment.host = form.get("host", self.environment.host)
            self.options.run_time = form.get("run_time") or None  # Locust keeps the one of the last start
        self.ensure_host()
        host = str(self.environment.host)
        engine = self._engine if self._engine and host.rstrip("/") == self._engine.host else None
        self._prepared = prepare(scenario, host, engine, self._waiter)

    def begin(self) -> None:
        """Start a run of what was prepared."""
        if self._prepared is None:
            self.prepare()
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        self._sdk = _open_sdk(prepared.settings, self._waiter) if prepared.scenario.client == "openai" else None
        route = prepared.settings.dialect.path(stream=prepared.scenario.stream)
        users = self._runner.target_user_count
        spread_s = SPREAD_S if self._spawn_rate is None else users / self._spawn_rate
        self.run = Run(
            prepared,
            Load(users, self.options.run_time, spread_s),
            on_warm=self._runner.stats.clear_all,
            on_record=lambda record: tell(self.environment, record, route),
            on_complete=lambda: gevent.spawn(self._end),
        )
        logger.info("Run folder: %s", self.run.folder.path)
        self.run.begin()

    def new_client(self) -> Sender | None:
        """Return a client for one user; None if there is no run."""
        if self.run is None:
            return None
        return self._sdk or Client(self.run.prepared.settings, self._waiter)

    def ramped(self) -> None:
        """Note whether the users are still as many as the run began with."""
        if self.run is not None and self._runner.target_user_count != self.run.manifest.users:
            self.run.users_changed()

    def quitting(self) -> None:
        """Stop what still runs: Locust asks for the exit status before it would do so itself."""
        self._runner.stop()
        if self.options.csv_prefix:  # written once a second, and not once more at the end
            gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)

    def stopping(self) -> None:
        """Stop handing out requests."""
        if self.run is not None:
            self.run.stop()

    def finish(self) -> None:
        """End the run: write its summary, and let the exit status follow its verdict."""
        if self.run is None:
            return
        run, self.run = self.run, None
        summary = run.finish()
        self._last = (summary, run.folder.path)
        if self.environment.process_exit_code != _BUG:
            self.environment.process_exit_code = verdict_of(summary).exit_status
        if self.environment.web_ui is not None:
            self.show()

    def show(self) -> None:
        """Print the summary of the last run, once."""
        from loadgen.results.terminal import show  # rich draws random numbers when it is imported

        if self._last is not None:
            summary, folder = self._last
            self._last = None
            show(summary, str(folder))

    def note_bug(self) -> None:
        """Note that code of ours failed, a full disk included: the run ends, and the exit status says so."""
        self.environment.process_exit_code = _BUG
        gevent.spawn(self._end)

    def interrupt(self) -> None:
        """End what runs, and then the process; the second time, abort what is in flight."""
        if self._interrupted:
            self._runner.user_greenlets.kill(block=False)
            return
        self._interrupted = True
        logger.warning("Interrupted: waiting for the requests in flight; Ctrl-C again aborts them")
        self._runner.quit()
        if self.environment.web_ui is not None:
            self.environment.web_ui.stop()

    def close(self) -> None:
        """Stop the embedded engine."""
        if self._engine is not None:
            self._engine.stop()
            self._engine = None
        self._stamping.close()

    def _end(self) -> None:
        """End the run from within, when its requests are done."""
        if self.options.headless:
            self._runner.quit()
        else:
            self._runner.stop()


def _open_sdk(settings: Settings, waiter: Waiter) -> Sender:
    from loadgen.wire.openai_sdk import OpenAIClient  # takes a second to import, and draws random numbers

    return OpenAIClient(settings, waiter)


_SESSIONS: dict[int, Session] = {}


def open_session(environment: Environment, runner: LocalRunner, options: Namespace) -> Session:
    """Make the session of an environment."""
    session = _SESSIONS[id(environment)] = Session(environment, runner, options)
    return session


def session_of(environment: Environment) -> Session:
    """Return the session of an environment; raises KeyError if it has none."""
    return _SESSIONS[id(environment)]

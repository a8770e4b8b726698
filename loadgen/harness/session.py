"""The process that conducts, alone or as Locust's master: the embedded engine, and one run after another."""

import logging
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from locust.env import Environment
from locust.runners import STATE_INIT, STATE_RUNNING, STATE_SPAWNING, STATE_STOPPED, LocalRunner, MasterRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from loadgen.errors import DISK_ERRORS, UsageError
from loadgen.harness import live_data, start
from loadgen.harness.annotate import annotate
from loadgen.harness.conductor import Conductor, Means
from loadgen.harness.exporting import Exporter
from loadgen.harness.forked import Forked, end_forks
from loadgen.harness.key_hosts import given_hosts, host_of_users, key_hosts
from loadgen.harness.load_kind import LoadKind
from loadgen.harness.meter import energy_of
from loadgen.harness.options import scenario_of
from loadgen.harness.part import Part
from loadgen.harness.prepare import Prepared, prepare
from loadgen.harness.process import BUG, INCONCLUSIVE, INVALID, Process, end_before_a_run, say
from loadgen.harness.scrape import read_counters
from loadgen.harness.secrets import grafana_token
from loadgen.harness.team import Alone, Team, Workers
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import start_embedded
from loadgen.results.grafana import annotations, live_link
from loadgen.results.store import RecordFile, RunFolder, records_path
from loadgen.results.summary import Summary, verdict_of

if TYPE_CHECKING:
    from loadgen.live.progress import Progress

logger = logging.getLogger(__name__)

USERS_S = 30.0
"""So long Locust may take to have the users of a step."""

ANNOTATE_S = 10.0
"""So long Grafana may take to note a run, all in all."""

_PER_DISPATCH = 100
"""Users that Locust starts at a time in each process; beyond it, it warns."""


class Session(Process):
    """Joins Locust's life cycle to our runs."""

    def __init__(
        self, environment: Environment, runner: LocalRunner | MasterRunner, options: Namespace, kind: LoadKind
    ) -> None:
        super().__init__(environment, runner, options)
        self.conductor: Conductor | None = None
        self.kind = kind
        self._key_hosts = key_hosts(given_hosts(environment))
        environment.host = environment.host or host_of_users(environment)
        self._locust = runner
        forked = Forked() if options.processes else None
        self._workers = Workers(runner, self, forked) if isinstance(runner, MasterRunner) else None
        self._engine: ChildServer | None = None
        self._prepared: Prepared | None = None
        self._progress: Progress | None = None
        self._exporter: Exporter | None = None
        self._grafana_token: str | None = None
        self._annotating: gevent.Greenlet | None = None
        self._last: tuple[Summary, Path] | None = None
        self._seen = live_data.IDLE
        self._interrupted = False
        self.begun = False
        """Whether a run has begun, or is about to."""
        self._beginning = False
        self._ending: gevent.Greenlet | None = None
        self._finishing: gevent.Greenlet | None = None
        self._trouble: str | None = None
        """What the user has to know beside the verdict."""
        self._told = False
        """Whether the user knows why the exit status is what it is."""
        environment.process_exit_code = INCONCLUSIVE  # until there is a verdict: 0 is for one that was shown
        self._spawned = gevent.event.Event()
        self._spawn_rate: float | None = options.spawn_rate
        """As it was asked for; None if it was not."""

    @property
    def idle(self) -> bool:
        """Whether no run is going on."""
        return self._locust.state in {STATE_INIT, STATE_STOPPED}

    @property
    def ending(self) -> bool:
        """Whether a run is being ended."""
        return not self.idle and self._locust.state not in {STATE_RUNNING, STATE_SPAWNING}

    @property
    def can_have_engine(self) -> bool:
        """Whether the embedded engine can be used: by this process and those that it forks."""
        return self._workers is None or bool(self.options.processes)

    @property
    def _starts_by_itself(self) -> bool:
        """Whether the run starts as soon as all workers are there."""
        return bool(self.options.headless or self.options.autostart)

    def first_users(self) -> int | None:
        """Return how many users Locust starts with."""
        if self.kind is LoadKind.SWEEP:
            return start.first_step(scenario_of(self.options, self.kind))
        return 1 if self.kind is LoadKind.OPEN else self.options.num_users

    def ensure_host(self) -> None:
        """Start the embedded engine if no server was named; raises UsageError where it cannot run."""
        if self.environment.host:
            return
        if not self.can_have_engine:
            raise UsageError(
                "--master needs --host: the embedded engine listens on this machine only, where workers on others "
                "cannot reach it. Name a server, or use --processes."
            )
        if self._engine is None:
            logger.info("No --host: starting the embedded engine (llama.cpp, random weights)")
            self._engine = start_embedded()
        self.environment.host = self._engine.host

    def prepare(self, form: Mapping[str, str] | None = None) -> None:
        """Look at everything that may be wrong before a run; ``form`` is what was typed in the web UI.

        Raises UsageError.
        """
        scenario = scenario_of(self.options, self.kind, form)
        if form is not None:
            self._spawn_rate = float(form["spawn_rate"]) if form.get("spawn_rate") else None
            self.environment.host = form.get("host", self.environment.host)
            self.options.run_time = form.get("run_time") or None  # Locust keeps the one of the last start
        self.ensure_host()
        host = str(self.environment.host)
        engine = self._engine if self._engine and host.rstrip("/") == self._engine.host else None
        self._grafana_token = grafana_token() if scenario.grafana else None
        self._prepared = prepare(scenario, host, engine, self._key_hosts, self.waiter)
        if self._exporter is not None and self._exporter.lost:
            self._exporter.close()
            self._exporter = None
        if self._exporter is None and scenario.metrics != "off":
            self._exporter = Exporter(scenario)
        if form is not None and self._workers is not None:
            self._muster(self._prepared)

    def begin(self) -> None:
        """Start a run of what was prepared.

        Raises UsageError where workers cannot take part, and WorkerLost where one is gone.
        """
        began = time.monotonic()
        self.begun = self._beginning = True
        self._ending = self._finishing = None
        starter = gevent.getcurrent()
        if isinstance(starter, gevent.Greenlet):  # Locust's, which goes on to start the users
            starter.link_exception(lambda dead: self.note_bug(dead.exception, logged=True))
        try:
            self._begin()
        finally:
            self._beginning = False
            if self.conductor is None:
                self.leave()
            else:
                self.conductor.began = began

    def _begin(self) -> None:
        if self._prepared is None:
            self.prepare()
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        self._spawned.clear()
        load = start.load_model(self.kind, prepared.scenario, self._locust.target_user_count, self._spawn_rate)
        users = self._locust.target_user_count
        manifest = start.manifest(prepared, self.kind, users=users, run_time=self.options.run_time)
        if self._workers is not None:
            self._muster(prepared)
        folder = RunFolder(Path(prepared.scenario.results) / manifest.run_id, manifest)
        logger.info("Run folder: %s", folder.path)
        if prepared.scenario.grafana is not None:
            link = live_link(prepared.scenario.grafana, manifest.run_id)
            logger.info("Watch it: %s", link if self._exporter else "not possible, as --metrics is off")
        stop_timeout_s = float(self.environment.stop_timeout)
        whole = start.orders(prepared, manifest, folder.path, stop_timeout_s)
        own = Part(
            whole if self._workers is None else start.warm_up_only(whole),
            prepared.scenario,
            RecordFile(records_path(folder.path, 0)),
            on_record=self.show_in_tables,
            on_done=self._wake,
            count_users=lambda: None if self._workers is not None else self._locust.user_count,
        )
        self.take_part(own, prepared.settings)
        means = Means(
            folder=folder,
            own=own,
            new_client=self.new_client,
            set_users=self._set_users,
            counters=partial(read_counters, prepared.settings, prepared.metrics, self.waiter),
            energy=partial(energy_of, prepared.launched),
            drain=partial(self.drain, stop_timeout_s),
            stop_timeout_s=stop_timeout_s,
            on_warm=self._locust.stats.clear_all,
            on_complete=self.end_soon,
            on_bug=self.note_bug,
        )
        from loadgen.live.progress import Progress  # rich draws random numbers when it is imported

        conductor = Conductor(prepared, manifest, load, means)
        team: Team = Alone(own, conductor.take)
        if self._workers is not None:
            self._workers.enlist(whole, conductor.take)
            team = self._workers
        self._progress = Progress(conductor.live)
        conductor.on_tick = self._on_tick
        if self._exporter is not None:
            self._exporter.begin(manifest)
            conductor.on_report = self._exporter.batch
        self._progress.start()
        self.conductor = conductor
        conductor.begin(team)

    def live_data(self) -> dict[str, Any]:
        """Return what the LLM tab shows: the run that goes on, or the last one."""
        return self._seen if self.conductor is None else live_data.live_data(self.conductor)

    def _on_tick(self) -> None:
        assert self._progress is not None
        with suppress(OSError):  # the terminal is gone
            self._progress.draw()
        if self.conductor is not None:
            self._export_state(self.conductor)

    def _export_state(self, run: Conductor) -> None:
        if self._exporter is not None:
            users = None if run.manifest.arrivals else run.manifest.users
            self._exporter.tick(run.live, users=users, workers=len(run.team.facts), lost=run.lost)

    def watch_workers(self) -> None:
        """End the process where a worker is gone before the run begins, or too few come in time.

        Locust would wait for the dead, and treat workers that do not come as if they were a bug.
        """
        assert self._workers is not None
        due = time.monotonic() + (self.options.expect_workers_max_wait or float("inf"))  # 0 is for ever
        waits = self._starts_by_itself
        while not self.begun:
            gone = self._workers.gone(forks_only=not waits)
            if gone is not None:
                say(f"{gone}, before the run began; exit status {INVALID}.")
                end_forks()
                raise SystemExit(INVALID)
            if waits and time.monotonic() >= due:
                say(self._workers.too_few(self.options))
                raise SystemExit(2)
            gevent.sleep(0.2)

    def heard(self, client_id: str, data: dict[str, Any]) -> None:
        """Take a worker's report."""
        if self._workers is not None:
            self._workers.heard(client_id, data)

    def users_started(self) -> None:
        """Note that Locust has started the users, and whether they are as many as the run began with."""
        self._spawned.set()
        run = self.conductor
        if run is not None and self.kind is LoadKind.CLOSED and self._locust.target_user_count != run.manifest.users:
            run.manifest.users_changed = True

    def quitting(self) -> None:
        """Stop what still runs: Locust asks for the exit status before it would do so itself."""
        if self._beginning:
            self._end_beginning()
        try:
            self._locust.stop()
        finally:
            self.finish()  # Locust has no second stop for a run whose first one has failed, or still goes on
        if self.options.csv_prefix:  # written once a second, and not once more at the end
            gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)

    def stopping(self) -> None:
        """End the load, whoever wants it ended, and have all records before Locust stops any user."""
        try:
            if self.conductor is not None:
                self.conductor.wind_down()
        finally:
            if self.part is not None:
                self.part.release()

    def finish(self) -> None:
        """End the run: write its summary, and let the exit status follow its verdict.

        In a greenlet of its own, as the caller may be one that Locust kills meanwhile.
        """
        if self.conductor is None:
            return
        if self._finishing is None:
            self._finishing = self.spawn(self._finish, self.conductor)
        self._finishing.join()

    def _finish(self, run: Conductor) -> None:
        try:
            seen = live_data.live_data(run)
            summary = run.finish()
            self._last = (summary, run.means.folder.path)
            self._note_verdict(run, verdict_of(summary).exit_status)
            self._seen = live_data.ended(seen, summary)
            self._tell_others(run, summary)
        finally:
            self.conductor = None
            self.leave()
            if self.environment.web_ui is not None:
                self.guard(self.show)()
            if self.options.headless:
                self.end_soon()  # where Locust itself has stopped the run, it would go on without one

    def _note_verdict(self, run: Conductor, status: int) -> None:
        """Let the exit status follow a verdict; a report that is not on disk is none."""
        if self.environment.process_exit_code == BUG:
            return
        if run.unwritten is not None:
            status = status or INCONCLUSIVE
            self._trouble = (
                f"{_cannot_write(run.unwritten)}: the records are in {run.means.folder.path}. Free some space, and "
                f"`loadgen report` makes the report; exit status {status}."
            )
        self.environment.process_exit_code = status

    def _tell_others(self, run: Conductor, summary: Summary) -> None:
        """Tell the terminal, the exporter and Grafana that a run has ended."""
        if self._progress is not None:
            with suppress(OSError):
                self._progress.stop()
        if self._exporter is not None:
            self._export_state(run)
            self._exporter.end(summary["verdict"])
        if self._grafana_token is not None:
            marks = annotations(run.manifest, verdict_of(summary).value)
            grafana = str(run.manifest.scenario["grafana"])
            self._annotating = gevent.spawn(annotate, grafana, self._grafana_token, marks)

    def show(self) -> None:
        """Print the summary of the last run, and what the user has to know beside it; once."""
        from loadgen.results.terminal import show  # rich draws random numbers when it is imported

        last, self._last = self._last, None
        trouble, self._trouble = self._trouble, None
        if last is not None:
            self._told = True
            summary, folder = last
            try:
                show(summary, str(folder))
                sys.stdout.flush()
            except OSError as error:
                self.environment.process_exit_code = self.environment.process_exit_code or INCONCLUSIVE
                say(f"the verdict cannot be shown ({error.strerror}): it is in {folder}.")
                _drop_output()
        if trouble is not None:
            self._told = True
            say(trouble)

    def exit(self, exit_code: int) -> None:
        """Show the last run, and end with the status that is right then; Locust was told it before."""
        self.guard(self.show)()
        status = self.environment.process_exit_code
        if not self._told:
            say(f"no run was made, so there is no verdict; exit status {status}.")
        if status != exit_code:
            raise SystemExit(status)

    def refuse(self, status: int) -> None:
        """Note that the run could not begin, and with which exit status that ends the process."""
        self.environment.process_exit_code = status
        self._told = True
        self.end_soon()

    def note_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """End the run because code of ours raised, or the disk is full."""
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            self.note_full_disk(error)
            self.end_soon()
            return
        if self.environment.process_exit_code != BUG and not logged:
            logger.error("An error in loadgen ends the run", exc_info=error)
        self._end_by_bug(f"{type(error).__name__}: {error}")

    def note_workers_bug(self, worker: str) -> None:
        """End the run because code of ours raised in a worker, whose log has it."""
        self._end_by_bug(f"in {worker}")

    def _end_by_bug(self, what: str) -> None:
        if self.environment.process_exit_code != BUG:
            self.environment.process_exit_code = BUG
            folder = "" if self.conductor is None else f" What was recorded is in {self.conductor.means.folder.path};"
            self._trouble = f"an error in loadgen ended the run ({what}); the log has more.{folder} exit status {BUG}."
        if self.conductor is not None:
            self.conductor.break_off(f"an error in loadgen ({what})")
        self.end_soon()

    def note_full_disk(self, error: OSError) -> None:
        """End the run because the disk does not take its records."""
        if self.conductor is not None:
            self.conductor.break_off(_cannot_write(error))
        else:
            say(f"{_cannot_write(error)}; exit status {self.environment.process_exit_code}.")

    def end_soon(self) -> None:
        """End the run from within, in a greenlet of its own; the process too, where it is there for one run."""
        if self._ending is None:
            self._ending = gevent.spawn(self._end)

    def _end_beginning(self) -> None:
        """Say that the process ends while the run is being set up."""
        self._told = True
        silent = self._workers.silent() if self._workers is not None else None
        if silent is not None and not self._interrupted:
            self.environment.process_exit_code = INVALID
        why = f": {silent}" if silent is not None else ""
        say(f"the run was ended before it began{why}; exit status {self.environment.process_exit_code}.")

    def interrupt(self) -> None:
        """End what runs, and then the process; the second time, abort what is in flight."""
        if self._interrupted:
            self.abort()
            if self._workers is not None:
                self._workers.abort()
            return
        self._interrupted = True
        if self._workers is not None and self._starts_by_itself and not self.begun:
            end_before_a_run(signal.SIGINT)  # Locust would go on waiting for workers
        logger.warning("Interrupted: waiting for the requests in flight; Ctrl-C again aborts them")
        self._locust.stop()
        self._locust.quit()
        if self.environment.web_ui is not None:
            self.environment.web_ui.stop()

    def close(self) -> None:
        """Stop the embedded engine, and the exporter once it has been scraped; Grafana gets a moment more."""
        if self._annotating is not None:
            self._annotating.join(ANNOTATE_S)
            self._annotating.kill()
        if self._exporter is not None:
            self._exporter.close()
            self._exporter = None
        if self._engine is not None:
            self._engine.stop()
            self._engine = None
        super().close()

    def _muster(self, prepared: Prepared) -> None:
        assert self._workers is not None
        has_key = prepared.settings.api_key is not None
        self._workers.muster(forked=bool(self.options.processes), has_key=has_key)

    def _set_users(self, users: int) -> None:
        """Have so many users, over all processes."""
        self._spawned.wait(USERS_S)  # those that Locust began with: starting more meanwhile would undo it
        if self._locust.user_count == users:
            return
        self._spawned.clear()
        self._locust.start(users, float(max(1, min(users, _PER_DISPATCH * max(1, self._locust.worker_count)))))
        self._spawned.wait(USERS_S)

    def _wake(self) -> None:
        if self.conductor is not None:
            self.conductor.wake()

    def _end(self) -> None:
        try:
            self._locust.stop()
            if self.options.headless:
                self._locust.quit()
        except Exception as error:  # noqa: BLE001 logged once, there
            self.note_bug(error)
            if self.options.headless:
                self._locust.greenlet.kill(block=False)  # the main greenlet waits for them


def _cannot_write(error: OSError) -> str:
    return f"{error.filename or 'a file'} cannot be written ({error.strerror})"


def _drop_output() -> None:
    """Let what is still printed go nowhere: it would fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

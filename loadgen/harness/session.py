"""The process that conducts, alone or as Locust's master: joins Locust's life cycle to one run after another."""

import logging
import signal
from argparse import Namespace
from collections.abc import Mapping
from copy import copy
from pathlib import Path

import gevent
from locust.env import Environment
from locust.runners import STATE_INIT, STATE_RUNNING, STATE_SPAWNING, STATE_STOPPED, LocalRunner, MasterRunner
from locust.stats import CSV_STATS_INTERVAL_SEC

from loadgen.exit_status import ExitStatus
from loadgen.harness.displays import Displays
from loadgen.harness.endpoint import Endpoint
from loadgen.harness.engine_monitor import EngineMonitor
from loadgen.harness.forked import Forked
from loadgen.harness.hosts import given_hosts
from loadgen.harness.locust_users import LocustUsers
from loadgen.harness.options import LEAVE_RUNNING, changed_in, only_changed, scenario_of
from loadgen.harness.process import LocustProcess, end_before_a_run, say
from loadgen.harness.transport import LocustTransport, listen_to_workers
from loadgen.harness.user_classes import (
    apply_to_options,
    check_classes,
    class_defaults,
    is_from_classes,
    load_model_of,
    possible_load_models,
)
from loadgen.harness.user_guard import UserGuard
from loadgen.harness.verdict_output import VerdictOutput
from loadgen.results.store import RecordFile, RunFolder, records_path
from loadgen.run.controller import RunController
from loadgen.run.host import RunSetup
from loadgen.run.key_hosts import key_hosts
from loadgen.run.load.model import LoadModel
from loadgen.run.pool import LocalPool, WorkerPool
from loadgen.run.prepare import Prepared, prepare
from loadgen.run.remote_pool import RemotePool
from loadgen.run.result import RunResult, save_reports
from loadgen.run.setup import new_manifest, whole_run, without_users
from loadgen.run.supervisor import RunSupervisor

logger = logging.getLogger(__name__)


class Session(RunSupervisor, LocustProcess):
    """Prepares, begins and ends runs when Locust does. It is the RunHost of each."""

    def __init__(
        self,
        environment: Environment,
        runner: LocalRunner | MasterRunner,
        options: Namespace,
        *,
        is_command: bool = True,
    ) -> None:
        """Prepare for runs; ``is_command``: whether the process is one of the ``locust`` command, which ends it."""
        super().__init__(environment, runner, options)
        self.displays = Displays()
        self.output = VerdictOutput(to_stderr=options.json)
        self.users = LocustUsers(runner, options.spawn_rate)
        self.user_guard = UserGuard(runner, self.users)
        self.begun = False
        """Whether a run has begun, or is about to."""
        self.result: RunResult | None = None
        """Of the last run."""
        self._is_command = is_command
        self._key_hosts = key_hosts(given_hosts(environment))
        self._locust = runner
        self._given_in_form: list[str] = []
        self.pool = self._new_pool()
        self.endpoint = Endpoint(environment, can_be_embedded=self.pool is None or bool(options.processes))
        self._prepared: Prepared | None = None
        self._is_beginning = False
        self._ending: gevent.Greenlet | None = None
        self._finishing: gevent.Greenlet | None = None
        self.set_exit_status(ExitStatus.INCONCLUSIVE)  # until there is a verdict: 0 is for one that was shown

    def _new_pool(self) -> RemotePool | None:
        if not isinstance(self._locust, MasterRunner):
            return None
        transport = LocustTransport(self._locust, Forked() if self.options.processes else None)
        pool = RemotePool(transport, self, self.runtime)
        listen_to_workers(self._locust, pool, self)
        return pool

    @property
    def idle(self) -> bool:
        """Whether no run is going on, or being ended."""
        return self.controller is None and self._locust.state in {STATE_INIT, STATE_STOPPED}

    @property
    def ending(self) -> bool:
        """Whether a run is being ended."""
        return not self.idle and self._locust.state not in {STATE_RUNNING, STATE_SPAWNING}

    @property
    def _load_model(self) -> type[LoadModel]:
        """What the chosen user classes apply; raises OptionError if they apply several kinds of load."""
        return load_model_of(self.environment.user_classes, self.environment.shape_class)

    @property
    def load_models_of_form(self) -> set[type[LoadModel]]:
        """What a start from the web UI may apply: with ``--class-picker`` the classes are chosen there."""
        if not self.options.class_picker:
            return {self._load_model}
        classes = (self.environment.available_user_classes or {}).values()
        return possible_load_models(classes, has_shapes=bool(self.environment.available_shape_classes))  # type: ignore[arg-type]

    @property
    def starts_by_itself(self) -> bool:
        """Whether the run starts as soon as all workers are there."""
        return bool(self.options.headless or self.options.autostart)

    @property
    def _ends_with_run(self) -> bool:
        """Whether the process ends with its run: headless at once, with ``--autoquit`` some seconds later."""
        return bool(self.options.headless or (self.options.autostart and self.options.autoquit != LEAVE_RUNNING))

    # Before a run.

    def first_users(self) -> int | None:
        """Return how many users Locust starts with; raises UsageError."""
        scenario = scenario_of(self.options, self._load_model)
        return self.user_guard.first_users(self._load_model, scenario, self.options.num_users)

    def prepare(self, form: Mapping[str, str] | None = None) -> None:
        """Check everything that may be wrong before a run; ``form`` is what was typed in the web UI.

        Raises UsageError.
        """
        classes = self.environment.user_classes
        check_classes(classes)
        self._given_in_form = [] if form is None else changed_in(form, self.options)
        options = copy(self.options)
        apply_to_options(options, classes)  # the form may have picked other classes
        scenario = scenario_of(options, self._load_model, only_changed(form or {}, self._given_in_form))
        if form is not None:
            self.user_guard.check_typed(self._load_model, form.get("user_count"), self.options.num_users)
            self.users.spawn_rate = float(form["spawn_rate"]) if form.get("spawn_rate") else None
            self.endpoint.take(form)
            self.options.run_time = form.get("run_time") or None  # Locust keeps the one of the last start
        host = self.endpoint.ensure()
        self.displays.check(scenario)
        self._prepared = prepare(scenario, host, self.endpoint.embedded, self._key_hosts, self.waiter)
        self.displays.prepare(scenario)
        if form is not None:
            self._check_workers(self._prepared, int(form.get("user_count") or 1))

    def _check_workers(self, prepared: Prepared, total: int) -> list[str]:
        """Check workers before a run of ``total`` users; return their ids, none for a run of one process."""
        if self.pool is None:
            return []
        with_key = prepared.settings.has_key
        workers = self.pool.check_workers(forked=bool(self.options.processes), with_key=with_key)
        self._load_model.check_processes(self.users.by_process(total, len(workers)))
        return workers

    # A run begins.

    def begin(self) -> None:
        """Start a run of what was prepared.

        Raises UsageError where something is wrong, or workers cannot take part, and WorkerLost where one is gone.
        """
        self.begun = self._is_beginning = True
        self._ending = self._finishing = None
        starter = gevent.getcurrent()
        if isinstance(starter, gevent.Greenlet):  # Locust's, which goes on to start the users
            starter.link_exception(lambda dead: self._users_failed(dead.exception))
        try:
            self._begin()
        finally:
            self._is_beginning = False
            if self.controller is None:
                self.leave_run()

    def _users_failed(self, error: BaseException) -> None:
        """End the run because Locust could not start a user; Locust has logged the traceback."""
        if self.controller is None or not is_from_classes(error, self.environment.user_classes):
            self.report_bug(error, logged=True)
            return
        self.controller.abort(f"a user could not be started ({type(error).__name__}: {error})")
        self.end_run()

    def _begin(self) -> None:
        began_ns = self.runtime.now()
        if self._prepared is None:
            self.prepare()
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        check_classes(self.environment.user_classes)  # by now Locust has left out tasks by their tags
        self.users.expect_start()
        load = self._load_model(
            prepared.scenario,
            self.user_guard.users_at_start(is_debugger=not self._is_command),
            self.users.spawn_rate,
        )
        manifest = new_manifest(
            prepared,
            load,
            self.options.run_time,
            self.options.locustfile if self._is_command else None,
            self.options.user_classes or (),
        )
        workers = self._check_workers(prepared, int(self._locust.target_user_count))
        folder = RunFolder(Path(prepared.scenario.results) / manifest.run_id, manifest)
        logger.info("Run folder: %s", folder.path)
        logger.info(load.end_announcement(manifest.run_time_s))
        stop_timeout_s = float(self.environment.stop_timeout or 0)
        whole = whole_run(
            prepared,
            load,
            manifest,
            folder.path,
            stop_timeout_s=stop_timeout_s,
            user_classes=class_defaults(self.options, self.environment.user_classes, self._given_in_form),
        )
        mine = whole if self.pool is None else without_users(whole)
        share = self.new_share(mine, prepared.scenario, RecordFile(records_path(folder.path, 0)), prepared.settings)
        setup = RunSetup(
            manifest=manifest,
            folder=folder,
            load=load,
            warm_up=prepared.plan.warmup,
            stop_timeout_s=stop_timeout_s,
            began_ns=began_ns,
        )
        controller = RunController(setup, share, self, EngineMonitor(prepared, self.waiter), self.runtime)
        pool: WorkerPool = LocalPool(share, controller.reports)
        if self.pool is not None:
            self.pool.assign_shards(whole, workers, controller.reports)
            pool = self.pool
        self.displays.begin(controller)
        self.controller = controller
        controller.start(pool, [self.displays])

    # What the run needs of its process: RunHost.

    def set_users(self, users: int) -> None:
        """Have that many users, over all processes."""
        self.users.set(users)

    def measuring_begins(self) -> None:
        """Clear Locust's tables of the warm-up."""
        self._locust.stats.clear_all()

    def user_count(self) -> int | None:
        """Return how many users this process has; None for a master, whose users are at its workers."""
        return None if self.pool is not None else self.own_users()

    def end_run(self) -> None:
        """End the run from within, in a separate greenlet; a headless process ends with its run."""
        if self._ending is None or self._ending.ready():
            self._ending = gevent.spawn(self._end)

    # A run ends.

    def users_started(self) -> None:
        """Note that Locust has started as many users as it was asked for."""
        self.users.note_started()
        if self.controller is not None:
            self.controller.load.users_are(self.users.wanted)

    def users_for(self, total: int, spawn_rate: float) -> tuple[int, float] | str:
        """Return how many users Locust may have, and how many a second it starts; or why their number stays."""
        refusal = self.user_guard.refusal(self.controller, total)
        if refusal is not None or self.controller is not None or self._load_model.user_option is None:
            return refusal or (total, spawn_rate)
        scenario = scenario_of(self.options, self._load_model) if self._prepared is None else self._prepared.scenario
        first = self.user_guard.first_users(self._load_model, scenario, total) or total
        return first, float(first)

    def stopping(self) -> None:
        """End the load, whoever wants it ended, and have all records before Locust stops any user."""
        try:
            if self.controller is not None:
                if self.user_guard.is_shape:  # it has come to its end
                    self.controller.load_completed()
                self.controller.stop()
        finally:
            if self.share is not None:
                self.share.source.release()

    def finish(self) -> None:
        """End the run: write its summary, and let the exit status follow its verdict.

        In a separate greenlet, as Locust may kill the caller meanwhile.
        """
        if self.controller is None:
            return
        if self._finishing is None:
            self._finishing = self.spawn(self._finish, self.controller)
        self._finishing.join()

    def take_result(self, result: RunResult) -> None:
        """Let the exit status follow the result; where that is 0, ``--exit-code-on-error`` applies if it was given."""
        super().take_result(result)
        code = self.options.exit_code_on_error
        has_errors = result.summary.requests.failed or self._locust.exceptions
        if self.exit_status is ExitStatus.OK and has_errors and code is not None:
            self.environment.process_exit_code = code

    def _finish(self, run: RunController) -> None:
        try:
            result = self.result = run.finish()
            self.output.take(result)
            self.take_result(result)
            self.displays.end(result.summary)
        finally:
            self.controller = None
            self.displays.forget_run()
            self.leave_run()
            if self.environment.web_ui is not None or not self._is_command:
                self.guard(self.show_verdict)()
            if self._ends_with_run:
                self.end_run()  # where Locust itself has stopped the run, it would go on without one

    def _end(self) -> None:
        try:
            self._locust.stop()
            if self.options.headless:
                self._locust.quit()
            elif self._ends_with_run:
                self._quit_after_delay()
        except Exception as error:  # noqa: BLE001 logged once, there
            self.report_bug(error)
            if self.options.headless:
                self._locust.greenlet.kill(block=False)  # the main greenlet waits for them

    # The process ends.

    def _quit_after_delay(self) -> None:
        """End the process after the time of ``--autoquit``, unless another run has begun by then."""
        gevent.sleep(self.options.autoquit)
        if self._ending is gevent.getcurrent():
            logger.info("--autoquit: %g s have passed since the end of the run", self.options.autoquit)
            self._quit()

    def _quit(self) -> None:
        """End what the main greenlet waits for: Locust's runner, or the web UI."""
        self._locust.quit()
        if self.environment.web_ui is not None:
            self.environment.web_ui.stop()

    def end_process(self) -> None:
        """End the run, and then the process, because the user interrupted it."""
        if self.pool is not None and self.starts_by_itself and not self.begun:
            end_before_a_run(signal.SIGINT)  # Locust would go on waiting for workers
        if self.controller is not None:
            logger.warning("Interrupted: waiting for the requests in flight; Ctrl-C again aborts them")
        self._locust.stop()
        self._quit()

    def remark(self, text: str) -> None:
        """Show a sentence after the verdict."""
        self.output.remark(text)

    def set_exit_status(self, status: ExitStatus) -> None:
        """Set the status with which the process will end, and let Locust know it."""
        super().set_exit_status(status)
        self.environment.process_exit_code = int(self.exit_status)

    def refuse(self, status: ExitStatus) -> None:
        """Note that the run could not begin, for a reason that the user was told, and end."""
        self.set_exit_status(status)
        self.output.is_explained = True
        self.end_run()

    def quitting(self) -> None:
        """Stop what still runs: Locust asks for the exit status before it would do so itself."""
        if self._is_beginning:
            self._end_beginning()
        try:
            self._locust.stop()
        finally:
            self.finish()  # Locust has no second stop for a run whose first one has failed, or still goes on
            self.guard(self.show_verdict)()  # before the tables that Locust prints with --print-stats
        if self.options.csv_prefix:  # written once a second, and not once more at the end
            gevent.sleep(CSV_STATS_INTERVAL_SEC + 0.1)

    def _end_beginning(self) -> None:
        """Say that the process ends while the run is being set up."""
        self.output.is_explained = True
        silent = self.pool.silent() if self.pool is not None else None
        if silent is not None and not self.is_interrupted:
            self.set_exit_status(ExitStatus.INVALID)
        why = f": {silent}" if silent is not None else ""
        say(f"the run was ended before it began{why}; exit status {self.exit_status:d}.")

    def show_verdict(self) -> None:
        """Print what has not been shown yet, and write its reports; a verdict that could not be shown is none."""
        not_shown = self.output.show(self._save_reports)
        if not_shown is ExitStatus.BUG or (not_shown and not self.exit_status):
            self.set_exit_status(not_shown)

    def _save_reports(self, result: RunResult) -> None:
        """Write the reports of a result whose verdict has been shown."""
        saved = save_reports(result)
        if saved is not result:
            self.result = saved
            self.take_result(saved)

    def exit(self, exit_code: int) -> None:
        """Show what has not been shown, and end with the right status; ``exit_code`` is the one that Locust uses.

        A status that a locustfile has set itself stays.
        """
        self.guard(self.show_verdict)()
        status = self.environment.process_exit_code or 0
        if not self.output.is_explained:
            say(f"no run was made, so there is no verdict; exit status {status:d}.")
        if status != exit_code:
            raise SystemExit(status)

    def close(self) -> None:
        """Stop the displays and the embedded engine."""
        self.displays.close()
        self.endpoint.close()
        super().close()

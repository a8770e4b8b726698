"""A Locust worker: takes its share of the runs that its master conducts."""

import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.runners import WorkerRunner

from loadgen.errors import DISK_ERRORS, UsageError
from loadgen.exit_status import ExitStatus
from loadgen.harness.hosts import given_hosts
from loadgen.harness.packets import listener
from loadgen.harness.process import LocustProcess
from loadgen.results.store import RecordFile, records_path
from loadgen.run import accept, messages
from loadgen.run.key_hosts import key_hosts
from loadgen.run.messages import ClockReading, RunAssignment, StartStep, WorkerFailed, WorkerHello, WorkerReady
from loadgen.run.result import cannot_write
from loadgen.run.secrets import api_key
from loadgen.run.worker import MasterWatch, WorkerRun
from loadgen.version import VERSION

logger = logging.getLogger(__name__)


class WorkerSession(LocustProcess):
    """Joins a worker's life cycle to the runs of its master. It is the WorkerHost of its share."""

    def __init__(self, environment: Environment, runner: WorkerRunner, options: Namespace, parent: int | None) -> None:
        super().__init__(environment, runner, options)
        self._worker = runner
        self._parent = parent
        self._own_options = accept.WorkerOptions(
            Path(options.results), options.engine, options.tokenizer, key_hosts(given_hosts(environment))
        )
        self._run: WorkerRun | None = None
        self._master = MasterWatch(self.runtime)
        self._is_interrupted = False
        self._exit_status = ExitStatus.OK
        listeners: dict[str, Callable[..., None]] = {
            messages.CLOCK: listener(ClockReading, self._tell_time),
            messages.ASSIGN: listener(RunAssignment, self._take_assignment),
            messages.START_WARM_UP: self._start_warm_up,
            messages.START_STEP: listener(StartStep, self._start_step),
            messages.FINISH: self._finish,
            messages.ABORT: self._abort,
        }
        for name, listen in listeners.items():
            runner.register_message(name, self.guard(listen))
        environment.process_exit_code = 0  # the server's faults are the master's to judge
        self._send_hello()
        self.spawn(self._watch_master)

    # Locust's events.

    def report(self, data: dict[str, Any]) -> None:
        """Add what we have to Locust's report."""
        report = None if self._run is None else self._run.report()
        if report is not None:
            data[messages.REPORT] = messages.pack(report)

    def heartbeat(self) -> None:
        """Note that the master lives."""
        self._master.heard()

    def quitting(self) -> None:
        """End our share before Locust tells the master that we are gone: it would not wait for what is in flight."""
        self._end_share()

    def stopping(self) -> None:
        """End our share before Locust stops the users; where the master has asked for that, it is over already."""
        share = self.share
        try:
            self._end_share()
        finally:
            if share is not None:
                share.source.release()
        self.environment.stop_timeout = 0.0  # Locust would sleep for it afterwards; the next start sets it anew

    def leave_run(self) -> None:
        """Have no share of a run any more."""
        if self._run is not None:
            self._run.close()
        self._run = None
        super().leave_run()

    def set_exit_status(self, status: ExitStatus) -> None:
        """Set the status with which the process will end. A bug stays one."""
        if self._exit_status is not ExitStatus.BUG:
            self._exit_status = status
            self.environment.process_exit_code = int(status)

    def refuse(self, status: ExitStatus) -> None:
        """Note that we cannot take our share; the master has been told."""

    def interrupt(self) -> None:
        """Leave the run to the master while there is one: an interrupt from a terminal hits all processes at once.

        The second one is meant for us.
        """
        if self.share is not None and self._is_interrupted:
            self.share.source.finish()
            self.share.cancel_requests()
        if self.share is None or self._is_interrupted:
            self._worker.quit()
        self._is_interrupted = True

    # What the share needs of its process: ShareHost and WorkerHost.

    def user_count(self) -> int | None:
        """Return how many users this process has."""
        return self.own_users()

    def share_done(self) -> None:
        """Report at once that all planned requests have been made."""
        self.spawn(self.send_report)

    def send_report(self) -> None:
        """Send a report, as Locust's own reporter does."""
        self._worker._send_stats()  # noqa: SLF001

    def run_lost(self) -> None:
        """Note that the run goes on, or has ended, without us."""
        if self._exit_status is not ExitStatus.INCONCLUSIVE:
            self.set_exit_status(ExitStatus.INCONCLUSIVE)
            logger.error("Our records are on disk; `loadgen report` on the run's folder puts together what there is")

    def report_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """Report an error in loadgen to the master, and quit; a full disk is only reported."""
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            self.disk_full(error)
            return
        if self._exit_status is ExitStatus.BUG:
            return
        self.set_exit_status(ExitStatus.BUG)
        if not logged:
            logger.error("An error in loadgen ends this worker", exc_info=error)
        gevent.spawn(self._worker.quit)
        self._tell_failure(f"an error in loadgen ({type(error).__name__}: {error})", bug=True)

    def disk_full(self, error: OSError) -> None:
        """Tell the master that our records are not complete."""
        self._tell_failure(cannot_write(error), bug=False)

    # What the master sends.

    def _tell_time(self, _: str, asked: ClockReading) -> None:
        answer = ClockReading(asked_ns=asked.asked_ns, monotonic_ns=time.monotonic_ns(), realtime_ns=time.time_ns())
        self._worker.send_message(messages.CLOCK, messages.pack(answer))

    def _take_assignment(self, _: str, assignment: RunAssignment) -> None:
        refused = None
        try:
            self._begin(assignment)
        except UsageError as error:
            refused = str(error)
            sys.stderr.write(f"loadgen: {refused}\n")
        ready = WorkerReady(run_id=assignment.run_id, refused=refused)
        self._worker.send_message(messages.READY, messages.pack(ready))

    def _begin(self, assignment: RunAssignment) -> None:
        self.leave_run()
        scenario = accept.scenario_of(assignment, self._own_options)
        settings = accept.settings(assignment, scenario, self._own_options)
        folder = accept.folder_of(assignment, self._own_options)
        file = RecordFile(records_path(folder, assignment.number))
        self._run = WorkerRun(self.new_share(assignment, scenario, file, settings), self)
        logger.info("Share %d of run %s: records go to %s", assignment.number, assignment.run_id, folder)

    def _start_warm_up(self, **_: Any) -> None:  # noqa: ANN401
        if self.share is not None:
            self.share.start_warm_up()

    def _start_step(self, _: str, step: StartStep) -> None:
        if self.share is not None:
            self.share.start_step(step)

    def _finish(self, **_: Any) -> None:  # noqa: ANN401
        self.spawn(self._end_share)  # not here: while this greenlet waits, no heartbeat is heard

    def _abort(self, **_: Any) -> None:  # noqa: ANN401
        if self.share is not None:
            self.spawn(self.share.cancel_requests)

    def _end_share(self) -> None:
        if self._run is not None:
            self._run.end()

    def _send_hello(self) -> None:
        hello = WorkerHello(
            version=VERSION,
            host=os.uname().nodename,
            pid=os.getpid(),
            parent=self._parent,
            has_key=api_key() is not None,
        )
        self._worker.send_message(messages.HELLO, messages.pack(hello))

    def _tell_failure(self, why: str, *, bug: bool) -> None:
        logger.error("%s: telling the master", why)
        self._worker.send_message(messages.FAILED, msgspec.to_builtins(WorkerFailed(why=why, bug=bug)))

    # Without a master.

    def _has_lost_master(self) -> bool:
        """Whether the process that forked us has ended, or our master has been silent too long in mid-run."""
        if self._parent is not None and os.getppid() != self._parent:
            return True
        if self.share is None:
            self._master.heard()
        return self._master.is_silent

    def _watch_master(self) -> None:
        """End where the master has gone: Locust would go on for a minute."""
        while not self._has_lost_master():
            gevent.sleep(1)
        logger.error("The master is gone: ending")
        if self._run is not None:
            self._run.end_without_master()
        self.set_exit_status(ExitStatus.INCONCLUSIVE)
        self._worker.quit()

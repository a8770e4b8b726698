"""What ends a run, whoever wants it ended, and with which status its process then ends.

The process that conducts a run inherits from :class:`RunSupervisor`; so do the tests' processes on virtual time.
"""

import logging
from abc import ABC, abstractmethod

from loadgen.errors import DISK_ERRORS
from loadgen.exit_status import ExitStatus
from loadgen.run.controller import RunController
from loadgen.run.remote_pool import RemotePool
from loadgen.run.result import RunResult, bug_remark, cannot_write
from loadgen.run.share import RunShare

logger = logging.getLogger(__name__)


class RunSupervisor(ABC):
    """Ends the present run of a process, and keeps the exit status."""

    share: RunShare | None = None
    controller: RunController | None = None
    """Of the present run; None if there is none."""
    pool: RemotePool | None = None
    """The workers of a master; None in a run of one process."""
    exit_status: ExitStatus = ExitStatus.INCONCLUSIVE
    """With which status the process will end; 0 only once a verdict has been shown."""
    is_interrupted = False

    @abstractmethod
    def end_run(self) -> None:
        """End the run from within; returns at once. Does nothing while it is being ended."""

    @abstractmethod
    def end_process(self) -> None:
        """End the run, and then the process."""

    @abstractmethod
    def remark(self, text: str) -> None:
        """Show a sentence to the user, after the verdict if there is one."""

    def set_exit_status(self, status: ExitStatus) -> None:
        """Set the status with which the process will end. A bug stays one."""
        if self.exit_status is not ExitStatus.BUG:
            self.exit_status = status

    def take_result(self, result: RunResult) -> None:
        """Let the exit status follow the result of a run, and show its remark unless there was a bug."""
        if result.remark is not None and self.exit_status is not ExitStatus.BUG:
            self.remark(result.remark)
        self.set_exit_status(result.exit_status)

    def share_done(self) -> None:
        """Let the load model see that this process has made all planned requests."""
        if self.controller is not None:
            self.controller.load.wake()

    def disk_full(self, error: OSError) -> None:
        """End the load because the disk does not take its records."""
        if self.controller is not None:
            self.controller.abort(cannot_write(error))
        else:
            self.remark(f"{cannot_write(error)}; exit status {self.exit_status:d}.")

    def report_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """End the run because of an error in loadgen, or a full disk; ``logged``: its traceback is in the log."""
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            self.disk_full(error)
            self.end_run()
            return
        if self.exit_status is not ExitStatus.BUG and not logged:
            logger.error("An error in loadgen ends the run", exc_info=error)
        self._fail(f"{type(error).__name__}: {error}")

    def worker_bug(self, worker: str) -> None:
        """End the run because of an error in loadgen in a worker, whose log has it."""
        self._fail(f"in {worker}")

    def interrupt(self) -> None:
        """End the run and the process; the second time, abort the requests in flight of all processes."""
        if not self.is_interrupted:
            self.is_interrupted = True
            if self.controller is not None:
                self.controller.note_sigint()
            self.end_process()
            return
        if self.share is not None:
            self.share.cancel_requests()
        if self.pool is not None:
            self.pool.abort()

    def _fail(self, what: str) -> None:
        folder = None
        if self.controller is not None:
            self.controller.abort(f"an error in loadgen ({what})")
            folder = self.controller.folder.path
        if self.exit_status is not ExitStatus.BUG:
            self.remark(bug_remark(what, folder))
        self.set_exit_status(ExitStatus.BUG)
        self.end_run()

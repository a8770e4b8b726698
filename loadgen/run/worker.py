"""A worker's share of its master's run, from its assignment to its last report."""

from typing import Protocol

from msgspec.structs import replace

from loadgen.clock import SECOND
from loadgen.measure.process_report import ProcessReport
from loadgen.run.runtime import Runtime
from loadgen.run.share import RunShare

MASTER_LOST_S = 8.0
"""A master answers a heartbeat each second. After this long without an answer it is gone, and the load ends."""


class WorkerHost(Protocol):
    """What a worker's share needs of its process."""

    def send_report(self) -> None:
        """Send a report now, which :meth:`WorkerRun.report` is asked for."""

    def run_lost(self) -> None:
        """Note that the run goes on, or has ended, without this worker, whose records are on its disk."""


class WorkerRun:
    """One worker's share of a run."""

    def __init__(self, share: RunShare, host: WorkerHost) -> None:
        self.share = share
        self._host = host
        self._is_drained = self._is_reported = False

    def report(self) -> ProcessReport | None:
        """Return a report for the master, None after the last one."""
        if self._is_reported:
            return None
        self._is_reported = self._is_drained
        return _without_chunks(self.share.report(last=self._is_drained))

    def end(self) -> None:
        """Drain, and send the last report. May be called by several events; the others do nothing."""
        if self._drain() and not self._is_reported:
            self._is_drained = True
            if self.share.recorder.restore():
                self._host.run_lost()
            self._host.send_report()

    def end_without_master(self) -> None:
        """Drain, and leave the records on disk: nobody takes a report any more."""
        self._host.run_lost()
        if self._drain():
            self.share.recorder.restore()
        self._is_reported = True

    def close(self) -> None:
        """Let waiting users end, and close the file. No report follows."""
        self._is_reported = True
        self.share.close()

    def _drain(self) -> bool:
        """Drain; return whether there is anything left to do afterwards."""
        if self._is_reported:
            return False
        self.share.drain(self.share.assignment.stop_timeout_s)
        return not self.share.is_closed  # else another event has ended the share meanwhile


class MasterWatch:
    """Tells whether a worker's master is still there."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._heard_at = runtime.now()

    def heard(self) -> None:
        """Note that the master has answered."""
        self._heard_at = self._runtime.now()

    @property
    def is_silent(self) -> bool:
        """Whether it has not answered for too long."""
        return self._runtime.now() - self._heard_at > MASTER_LOST_S * SECOND


def _without_chunks(report: ProcessReport) -> ProcessReport:
    """Leave out the arrival times of chunks: they stay on the worker's disk."""
    return replace(report, records=[replace(r, chunk_ns=None) if r.chunk_ns else r for r in report.records])

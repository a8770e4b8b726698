"""One process's share of a run: its source of requests, its recorder and its reporter, from assignment to last report.

Users of the process get requests from ``source`` and hand every record to :meth:`RunShare.keep`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from loadgen.measure.process_report import ProcessReport
from loadgen.protocol.completion import Exchange
from loadgen.protocol.records import dropped
from loadgen.record import Phase, RequestRecord
from loadgen.request import Request
from loadgen.results.store import RecordFile
from loadgen.run.messages import RunAssignment, StartStep
from loadgen.run.recorder import Recorder
from loadgen.run.reporter import HealthMonitor, Reporter
from loadgen.run.request_source import RequestSource
from loadgen.run.runtime import Runtime, TaskGroup, wait_until
from loadgen.run.user_code import UserCodeCounter
from loadgen.scenario import Scenario

logger = logging.getLogger(__name__)


class RunEnded(Exception):  # noqa: N818 it is no error
    """The run has no more requests to make, so its users end."""


@dataclass(frozen=True, slots=True)
class FlowControl:
    """The host's exceptions that end or move a user."""

    ended: type[Exception] = RunEnded
    """Raised in a user when the run has no more requests to make."""
    passed_on: tuple[type[Exception], ...] = ()
    """Raised by listeners of the host; any other that is raised while a request is sent is a bug, and ends the run."""


class Sender(Protocol):
    """A client of one user: ours, or the openai SDK's."""

    def send(self, request: Request) -> Exchange:
        """Send a request; return its record and the answer."""

    def close(self) -> None:
        """Close the connection that it keeps open, if any."""


class ShareHost(Protocol):
    """What a share needs of the process that it is in."""

    def new_client(self, keep: Callable[[RequestRecord], None]) -> Sender | None:
        """Return a client for one user, which hands its records to ``keep``; None if there is no run."""

    def show_record(self, record: RequestRecord, context: Mapping[str, object]) -> None:
        """Show a request that has ended in the process's own tables; ``context`` is what its user adds to it."""

    def share_done(self) -> None:
        """Take notice that all planned requests, or all of the warm-up, have been made and recorded."""

    def disk_full(self, error: OSError) -> None:
        """End the run because the disk does not take its records; called once."""

    def report_bug(self, error: BaseException) -> None:
        """End the run because code of ours failed; called in the task that it failed in."""

    def user_count(self) -> int | None:
        """Return how many users the process has; None if their number says nothing about the load."""

    def cancel_users(self) -> None:
        """End all users where they wait, and with them their requests in flight."""


class RunShare:
    """One process's share of a run.

    No request is handed out before its phase has been started, or after :meth:`drain`.
    """

    def __init__(
        self,
        assignment: RunAssignment,
        scenario: Scenario,
        file: RecordFile,
        host: ShareHost,
        health: HealthMonitor,
        runtime: Runtime,
    ) -> None:
        self.assignment = assignment
        self.scenario = scenario
        self.recorder = Recorder(file, runtime)
        self.source = RequestSource(assignment, scenario, self.recorder, host, runtime)
        self.requests = TaskGroup(runtime)
        """Tasks that send requests and belong to no user: those of the warm-up and of an open loop."""
        self.user_code = UserCodeCounter()
        """Counts the tasks of this process's users, and the exceptions that they raise."""
        self._reporter = Reporter(
            assignment.run_id, assignment.number, self.source, self.recorder, self.user_code, health
        )
        self._host, self._health, self._runtime = host, health, runtime
        self.is_closed = False
        self._is_started = self._is_disk_full = False

    def start_warm_up(self) -> None:
        """Let users send the requests of the warm-up."""
        self.source.start_warm_up()

    def start_step(self, step: StartStep) -> None:
        """Start the load, or its next step."""
        if not self._is_started:
            self._is_started = True
            self._health.start()
        self.source.start_step(step)

    def keep(self, record: RequestRecord, context: Mapping[str, object] = {}) -> None:
        """Keep the record of a request that has ended: first on disk, then for the next report.

        ``context``: what its user adds to it for listeners of the host.
        """
        try:
            self._write(record)
            self._host.show_record(record, context)
        finally:  # whatever failed, others wait for this count
            self.recorder.settle(record)
            if self.source.is_exhausted if record.phase is Phase.MEASURE else self.source.is_warmed_up:
                self._host.share_done()

    def drop(self, request: Request, why: str) -> None:
        """Keep the record of a request that was due and is not sent."""
        self.keep(dropped(request, why))

    def give_up(self, request: Request, error: BaseException) -> None:
        """End the run because our code failed while it sent a request, which has no record."""
        self.recorder.forget(request.id)
        self._host.report_bug(error)

    def report(self, *, last: bool = False) -> ProcessReport:
        """Return what has ended since the last report."""
        return self._reporter.report(self._host.user_count(), last=last)

    def drain(self, timeout: float) -> None:
        """Hand out no more requests, wait for those in flight, and cancel those that are left after ``timeout`` s."""
        self.source.finish()
        in_flight = self.recorder.in_flight
        if not wait_until(self._runtime, lambda: not in_flight, timeout):
            logger.warning("%d requests still in flight: aborting them", len(in_flight))
            self.cancel_requests()

    def cancel_requests(self) -> None:
        """Cancel all requests in flight; each gets its record."""
        self._host.cancel_users()
        self.requests.cancel()
        for _, request in list(self.recorder.in_flight.values()):  # its task was cancelled before it began
            self.drop(request, "the run ended before it was sent")

    def close(self) -> None:
        """Let waiting users end, and close the file."""
        if self.is_closed:
            return
        self.is_closed = True
        self.source.release()
        self._health.stop()
        self.recorder.close()

    def _write(self, record: RequestRecord) -> None:
        try:
            self.recorder.write(record)
        except OSError as error:
            if not self._is_disk_full:
                self._is_disk_full = True
                self.source.finish()
                self._host.disk_full(error)

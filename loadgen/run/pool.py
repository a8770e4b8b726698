"""The processes that make a run's requests, as its controller sees them."""

import os
from typing import Protocol

from loadgen.measure.facts import WorkerFacts
from loadgen.measure.process_report import ProcessReport
from loadgen.run.messages import StartStep
from loadgen.run.share import RunShare


class ReportSink(Protocol):
    """Takes the reports of processes."""

    def take(self, report: ProcessReport) -> None:
        """Take a report."""


class WorkerPool(Protocol):
    """The processes that make the requests."""

    facts: list[WorkerFacts]
    late: list[WorkerFacts]
    """Workers that joined during the run, and have no share of it."""

    def start_warm_up(self) -> None:
        """Let the users of all send the requests of the warm-up."""

    def start_step(self, step: StartStep) -> None:
        """Let all start the load, or go on with its next step."""

    def collect(self) -> None:
        """Fetch the reports that do not arrive by themselves."""

    def lost(self) -> list[str]:
        """Return a sentence about each worker that is gone, or came too late."""

    def finish(self, timeout: float) -> None:
        """Let all drain, with ``timeout`` seconds for requests in flight, and wait for their last reports."""


class LocalPool:
    """A pool of one: the process that conducts the run."""

    def __init__(self, share: RunShare, sink: ReportSink) -> None:
        self.facts = [this_process()]
        self.late: list[WorkerFacts] = []
        self._share, self._sink = share, sink

    def start_warm_up(self) -> None:
        """Let users send the requests of the warm-up."""
        self._share.start_warm_up()

    def start_step(self, step: StartStep) -> None:
        """Start the load, or its next step."""
        self._share.start_step(step)

    def collect(self) -> None:
        """Take a report."""
        self._sink.take(self._share.report())

    def lost(self) -> list[str]:
        """Return nothing: this process is here."""
        return []

    def finish(self, timeout: float) -> None:
        """Take the last report: the controller has drained the share."""
        del timeout
        self._sink.take(self._share.report(last=True))


def this_process() -> WorkerFacts:
    """Return the facts of the process that conducts the run."""
    return WorkerFacts(number=0, name="this process", host=os.uname().nodename, pid=os.getpid())

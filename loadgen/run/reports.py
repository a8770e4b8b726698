"""The reports of a run's processes: what each has done so far, and who follows it."""

from collections.abc import Sequence
from typing import Protocol

from loadgen.live.live import LiveStats
from loadgen.measure.facts import Instrument, UserCode, WorkerFacts
from loadgen.measure.process_report import ProcessReport
from loadgen.measure.records import Records
from loadgen.results.clocks import on_one_clock
from loadgen.results.store import RecordFile, RunFolder
from loadgen.run.load.model import Watcher
from loadgen.run.runtime import Runtime
from loadgen.run.user_code import together

MOST_ERRORS, MOST_IDLE_TASKS = 20, 1000
"""A run ends if this many of its tasks raise, or end, before any request is sent."""


class RunObserver(Protocol):
    """Shows a run while it goes on."""

    def report_taken(self, report: ProcessReport) -> None:
        """Show what a process has reported."""

    def ticked(self) -> None:
        """Show how things are; called twice a second."""


class Reports:
    """Takes the reports of all processes of a run, from its start on."""

    def __init__(self, folder: RunFolder, live: LiveStats, runtime: Runtime) -> None:
        self.live = live
        self.woken = runtime.event()
        """Set when a process has made all planned requests, or something else ends the present wait."""
        self._received = ReceivedRecords(folder)
        self._facts: Sequence[WorkerFacts] | None = None
        self._observers: Sequence[RunObserver] = ()
        self._watcher: Watcher | None = None
        self._last: dict[int, ProcessReport] = {}
        """The last report of each process."""

    def start(self, facts: Sequence[WorkerFacts], observers: Sequence[RunObserver]) -> None:
        """Take reports from now on; ``facts`` are those of the processes that make requests."""
        self._facts, self._observers = facts, observers

    def follow(self, watcher: Watcher) -> None:
        """Pass requests that end to a watcher, in place of the one before."""
        self._watcher = watcher

    def take(self, report: ProcessReport) -> None:
        """Take a report; before the start there is nothing in any."""
        if self._facts is None:
            return
        self._last[report.worker] = report
        self._received.keep(report)
        self.live.take(report)
        self.show(report)
        if self._watcher is not None:
            self._watcher.add(list(on_one_clock(Records.of(report.records), self._facts)))
        if report.done:
            self.woken.set()

    def show(self, report: ProcessReport) -> None:
        """Show a report, and do nothing else: that of a master, whose requests are the warm-up's."""
        for observer in self._observers:
            observer.report_taken(report)

    def tick(self) -> None:
        """Let observers show how things are."""
        for observer in self._observers:
            observer.ticked()

    @property
    def all_done(self) -> bool:
        """Whether all processes have made what was planned."""
        reports = [self._last.get(facts.number) for facts in self._facts or ()]
        return all(report is not None and report.done for report in reports)

    def has_no_users(self, *, each_needs_some: bool) -> bool:
        """Whether no process has users; with ``each_needs_some`` whether one has none, and has requests to make."""
        reports = [self._last.get(facts.number) for facts in self._facts or ()]
        idle = [report is not None and report.users == 0 and not report.done for report in reports]
        return bool(idle) and (any(idle) if each_needs_some else all(idle))

    @property
    def useless_tasks(self) -> str | None:
        """Why the users' code seems useless: many tasks raised or ended without a request; None if it does not."""
        code = self.user_code()
        if code is None or any(report.started for report in self._last.values()):
            return None
        if code.errors >= MOST_ERRORS:
            return f"{code.errors} tasks raised before any request was sent ({code.first_error})"
        return f"{code.tasks} tasks ended, and none asked the endpoint" if code.tasks >= MOST_IDLE_TASKS else None

    @property
    def settled_ns(self) -> int:
        """Every request sent before this time (by the controller's clock) has ended, and its record is here."""
        offsets = {facts.number: facts.clock_offset_ns for facts in self._facts or ()}
        reports = [self._last.get(number) for number in offsets]
        return min((r.settled_ns + offsets[r.worker] if r is not None else 0) for r in reports)

    def instruments(self) -> list[Instrument]:
        """Return how well each process measured, as its last report says."""
        return [report.instrument for _, report in sorted(self._last.items()) if report.instrument is not None]

    def user_code(self) -> UserCode | None:
        """Return the tasks of all users, as the last reports count them; None where nobody counted."""
        return together([report.user_code for _, report in sorted(self._last.items())])

    def close(self) -> None:
        """Close the files of received records."""
        self._received.close()


class ReceivedRecords:
    """The records of workers with another disk, as their reports brought them."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._files: dict[int, RecordFile | None] = {}
        """None for a worker that writes to our disk itself."""

    def keep(self, report: ProcessReport) -> None:
        """Write the records of a report, unless its worker does so itself."""
        worker = report.worker
        if worker not in self._files:
            self._files[worker] = None if self._folder.has_records_of(worker) else self._folder.received(worker)
        file = self._files[worker]
        if file is not None:
            for record in report.records:
                file.append(record)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            if file is not None:
                file.close()

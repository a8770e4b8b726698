"""Processes that make requests on virtual time: their users and shares, and workers that answer their master."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadgen.record import RequestRecord
from loadgen.results.store import RecordFile, records_path
from loadgen.run import messages
from loadgen.run.llm_client import LLMClient
from loadgen.run.messages import ClockReading, RunAssignment, WorkerFailed, WorkerHello, WorkerReady
from loadgen.run.result import cannot_write
from loadgen.run.schedule_sender import send_on_schedule
from loadgen.run.share import FlowControl, RunEnded, RunShare
from loadgen.run.worker import MasterWatch, WorkerRun
from loadgen.version import VERSION
from support.virtual_engine import Client, Health
from support.virtual_time import Process, Task

if TYPE_CHECKING:
    from support.virtual_run import VirtualLocust


class Member:
    """A process that makes requests: its users and its share. It is the ShareHost."""

    def __init__(self, locust: "VirtualLocust", process: Process) -> None:
        self.locust, self.process = locust, process
        self.share: RunShare | None = None
        self.users: list[Task] = []

    def new_share(self, assignment: RunAssignment, folder: Path) -> RunShare:
        """Return the share of an assignment."""
        file = RecordFile(records_path(folder, assignment.number))
        self.share = RunShare(assignment, self.locust.scenario, file, self, Health(), self.process)
        return self.share

    def set_users(self, users: int) -> None:
        """Have that many users."""
        self.users = [user for user in self.users if not user.done]
        while len(self.users) < users:
            self.users.append(self.process.spawn(self._be_user))

    def _be_user(self) -> None:
        share = self.share
        if share is None:
            return
        if self.locust.load.arrivals() is not None:
            send_on_schedule(share, self, FlowControl())
            return
        client = LLMClient(share, self, self.process)
        with suppress(RunEnded):
            while True:
                client.chat(client.next_prompt())
        client.close()

    def new_client(self, keep: Callable[[RequestRecord], None]) -> Client | None:
        """Return a client."""
        return None if self.share is None else Client(self.locust.engine, self.process, keep)

    def show_record(self, record: RequestRecord, context: Mapping[str, object]) -> None:
        """Show nothing."""

    def user_count(self) -> int | None:
        """Return the number of users."""
        return len(self.users)

    def cancel_users(self) -> None:
        """End all users where they wait."""
        for user in self.users:
            user.cancel()
        for user in self.users:
            user.wait()

    def share_done(self) -> None:
        """Let the load model look."""
        raise NotImplementedError

    def disk_full(self, error: OSError) -> None:
        """End the run."""
        raise NotImplementedError

    def report_bug(self, error: BaseException) -> None:
        """End the run."""
        raise NotImplementedError


class Worker(Member):
    """A worker: answers its master's messages, and reports each second. It is the WorkerHost of its share."""

    def __init__(self, locust: "VirtualLocust", process: Process, name: str) -> None:
        super().__init__(locust, process)
        self.name = name
        self.run: WorkerRun | None = None
        self.master = MasterWatch(process)
        self.has_lost_run = self.has_quit = False
        process.spawn(self._say_hello)
        process.spawn(self._report_each_second)
        process.spawn(self._watch_master)

    def _say_hello(self) -> None:
        hello = WorkerHello(version=VERSION, host=self.name, pid=1, parent=None, has_key=False)
        self.locust.send_up(self, "take_hello", hello)

    def _report_each_second(self) -> None:
        while not self.has_quit:
            self.process.sleep(1.0)
            self.send_report()

    def _watch_master(self) -> None:
        while not self.master.is_silent and not self.has_quit:
            self.process.sleep(1.0)
            if self.run is None or self.locust.answers_heartbeats:
                self.master.heard()
        if self.run is not None and not self.has_quit:
            self.run.end_without_master()
        self.quit()

    def quit(self) -> None:
        """End the share, and leave, as at the end of the process."""
        if self.run is not None:
            self.run.end()
            self.run.close()
        self.has_quit = True

    def take(self, kind: str, message: Any) -> None:
        """Take a message of the master."""
        if kind == messages.CLOCK:
            reading = ClockReading(
                asked_ns=message.asked_ns, monotonic_ns=self.process.now(), realtime_ns=time.time_ns()
            )
            self.locust.send_up(self, "take_time", reading)
        elif kind == messages.ASSIGN:
            self.run = WorkerRun(self.new_share(message, Path(message.folder)), self)
            self.locust.send_up(self, "take_ready", WorkerReady(run_id=message.run_id))
        elif kind == messages.START_WARM_UP and self.share is not None:
            self.share.start_warm_up()
        elif kind == messages.START_STEP and self.share is not None:
            self.share.start_step(message)
        elif kind == messages.FINISH and self.run is not None:
            self.run.end()
        elif kind == messages.ABORT and self.share is not None:
            self.share.cancel_requests()

    def send_report(self) -> None:
        """Send a report now."""
        report = None if self.run is None else self.run.report()
        if report is not None:
            self.locust.send_up(self, "take_report", report)

    def run_lost(self) -> None:
        """Note that the run goes on without us."""
        self.has_lost_run = True

    def share_done(self) -> None:
        """Report at once."""
        self.process.spawn(self.send_report)

    def disk_full(self, error: OSError) -> None:
        """Tell the master."""
        self.locust.send_up(self, "take_failure", WorkerFailed(why=cannot_write(error), bug=False))

    def report_bug(self, error: BaseException) -> None:
        """Tell the master, and end."""
        self.locust.bugs.append(error)
        self.locust.send_up(self, "take_failure", WorkerFailed(why=f"an error in loadgen ({error})", bug=True))
        self.process.spawn(self.quit)

"""Runs on virtual time: real controllers, load models, shares, pools and files; an engine and a Locust made of tasks.

:class:`VirtualLocust` takes the place of Locust and of the harness in one process, or in a master and its workers. It
does what they do, in their order: begins a run, starts users, ends the load when somebody wants it ended, then the run.
"""

import os
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from greenlet import GreenletExit

from loadgen.clock import MS, SECOND, Ns
from loadgen.errors import UsageError, WorkerLost
from loadgen.measure.facts import EngineCounters, Instrument
from loadgen.measure.histogram import Histogram, Wire
from loadgen.measure.process_report import ProcessReport
from loadgen.protocol.completion import Completion, Exchange
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.request import Request
from loadgen.results.clocks import on_one_clock
from loadgen.results.manifest import Manifest
from loadgen.results.store import RecordFile, RunFolder, read_run, records_path
from loadgen.run import messages
from loadgen.run.controller import RunController
from loadgen.run.exporting import Exporter
from loadgen.run.host import RunSetup
from loadgen.run.load.model import LoadModel
from loadgen.run.messages import ClockReading, RunAssignment, WorkerFailed, WorkerHello, WorkerReady
from loadgen.run.pool import LocalPool, WorkerPool
from loadgen.run.remote_pool import RemotePool
from loadgen.run.result import RunResult, cannot_write
from loadgen.run.setup import warm_up_only
from loadgen.run.share import RunShare
from loadgen.run.state import RunState
from loadgen.run.supervisor import RunSupervisor
from loadgen.run.users import ClosedLoopClient, send_on_schedule
from loadgen.run.worker import MasterWatch, WorkerRun
from loadgen.scenario import Scenario
from loadgen.version import VERSION
from loadgen.workload.prompts import Prompt
from support.virtual_time import START_NS, Event, Process, Task, World

TOKENS = 8
HEARTBEAT_LOST_S = 4.0
"""Locust takes a worker for lost after this long without a heartbeat."""
_TRAVEL_S = 0.001
"""A message takes this long."""


@dataclass
class Engine:
    """An engine with places for requests; the others queue."""

    service_s: float = 1.0
    """Mean time of service; each is up to a fifth shorter or longer."""
    places: int = 4
    free: int = field(init=False)
    queue: deque[Event] = field(default_factory=deque)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    answers: int = 0
    hangs: bool = False
    """Whether no answer comes any more."""
    refuses: bool = False
    """Whether connections are refused."""
    fails_after: int | None = None
    """Number of answers after which our code fails while it reads one."""

    def __post_init__(self) -> None:
        self.free = self.places

    def serve(self, process: Process) -> None:
        """Wait in the queue, then for the answer."""
        if not self.free:
            turn = process.event()
            self.queue.append(turn)
            try:
                turn.wait()
            except GreenletExit:
                self._leave_queue(turn)
                raise
        else:
            self.free -= 1
        try:
            process.sleep(self.service_s * self.rng.uniform(0.8, 1.2))
            while self.hangs:
                process.sleep(1.0)
        finally:
            self._pass_on()
        self.answers += 1
        if self.fails_after is not None and self.answers > self.fails_after:
            raise KeyError("a bug")

    def _pass_on(self) -> None:
        """Give a place to the next in the queue."""
        if self.queue:
            self.queue.popleft().set()
        else:
            self.free += 1

    def _leave_queue(self, turn: Event) -> None:
        if turn in self.queue:
            self.queue.remove(turn)
        else:
            self._pass_on()


class Client:
    """Sends one user's requests."""

    def __init__(self, engine: Engine, process: Process, keep: Callable[[RequestRecord], None]) -> None:
        self._engine, self._process, self._keep = engine, process, keep

    def send(self, request: Request) -> Exchange:
        """Send a request; raises what interrupts it, once its record is kept."""
        at = max(self._process.now(), request.not_before or Ns(0))
        try:
            self._process.sleep((at - self._process.now()) / SECOND)
            if not self._engine.refuses:
                self._engine.serve(self._process)
        except GreenletExit:
            self._keep(self._record(request, at, Outcome.ABORTED))
            raise
        record = self._record(request, at, Outcome.REFUSED if self._engine.refuses else Outcome.OK)
        self._keep(record)
        return Exchange(record, Completion(outcome=record.outcome))

    def close(self) -> None:
        """Close nothing."""

    def _record(self, request: Request, sent: Ns, outcome: Outcome) -> RequestRecord:
        end, place = self._process.now(), request.place
        is_ok = outcome is Outcome.OK
        return RequestRecord(
            request_id=request.id,
            phase=place.phase,
            worker=place.worker,
            step=place.step,
            user=place.user,
            prompt_row=place.prompt_row,
            round=place.round,
            scheduled_ns=request.due,
            sent_ns=sent,
            first_token_ns=sent + 100 * MS if is_ok else None,
            last_token_ns=end if is_ok else None,
            end_ns=end,
            first_token_interval_ns=0 if is_ok else None,
            output_tokens=TOKENS if is_ok else None,
            usage_tokens=TOKENS if is_ok else None,
            counted_by=CountedBy.USAGE if is_ok else None,
            chunks=TOKENS if is_ok else 0,
            finish_reason="length" if is_ok else None,
            outcome=outcome,
        )


class Health:
    """Finds nothing wrong with this process."""

    def __init__(self) -> None:
        self._is_started = False

    def start(self) -> None:
        """Start."""
        self._is_started = True

    def stop(self) -> Instrument:
        """Stop."""
        was_started, self._is_started = self._is_started, False
        return Instrument(loop_lag_p99_ms=0.1, cpu_share=0.1) if was_started else Instrument()

    def recent(self) -> Wire:
        """Return no lateness."""
        return Histogram().to_wire()


class Monitor:
    """An engine without counters and GPUs."""

    def read_counters(self) -> EngineCounters | None:
        """Return nothing."""
        return None

    def sample_energy(self) -> None:
        """Do nothing."""

    def energy(self) -> list[Any]:
        """Return nothing."""
        return []


class DisplayError(Exception):
    """What an observer raises that is wanted to fail."""


@dataclass
class Observer:
    """Notes what it is shown."""

    reports: list[ProcessReport] = field(default_factory=list)
    fails: bool = False
    exporter: Exporter | None = None

    def report_taken(self, report: ProcessReport) -> None:
        """Note a report, and export it."""
        self.reports.append(report)
        if self.exporter is not None:
            self.exporter.report(report)

    def ticked(self) -> None:
        """Fail, if that is wanted."""
        if self.fails:
            raise DisplayError("as the test wants it")


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
            send_on_schedule(share, self)
            return
        client = ClosedLoopClient(share, self, self.process)
        while client.ask_next_prompt():
            pass
        client.close()

    def new_client(self, keep: Callable[[RequestRecord], None]) -> Client | None:
        """Return a client."""
        return None if self.share is None else Client(self.locust.engine, self.process, keep)

    def show_record(self, record: RequestRecord) -> None:
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


class VirtualLocust(RunSupervisor, Member):
    """The process that conducts, and its workers, if any. It is the RunHost, and the transport to the workers.

    What ends a run, and with which status, is decided by the code that the harness uses, too.
    """

    def __init__(
        self,
        results: Path,
        load: Callable[[Scenario], LoadModel],
        *,
        engine: Engine | None = None,
        workers: int = 0,
        run_time_s: float | None = None,
        stop_timeout_s: float = 60.0,
        warm_up: int = 2,
        **options: Any,
    ) -> None:
        self.world = World()
        Member.__init__(self, self, self.world.process("master"))
        self.outside = self.world.process("outside")
        """Whoever interrupts, kills and freezes."""
        self.scenario = Scenario(model="m", sample=20, results=str(results), **options)
        self.load = load(self.scenario)
        self.engine = engine or Engine()
        self.answers_heartbeats = True
        self.observer = Observer()
        self.result: RunResult | None = None
        self.has_result = True
        """Whether summary and reports are made, whose pictures take a second."""
        self.bugs: list[BaseException] = []
        """Errors of our code that were reported."""
        self.said: list[str] = []
        """Sentences for the user that are no run's."""
        self._results = results
        self._run_time_s, self._stop_timeout_s, self._warm_up = run_time_s, stop_timeout_s, warm_up
        self._ending: Task | None = None
        self._ended = self.process.event()
        self.workers_there: list[Worker] = []
        for _ in range(workers):
            self.add_worker()
        self._silent_since: dict[str, Ns] = {}
        self.pool = RemotePool(self, self, self.process) if workers else None

    def add_worker(self) -> Worker:
        """Have another worker, whose clock shows some hours more."""
        number = len(self.workers_there) + 1
        process = self.world.process(f"worker {number}", clock_offset_ns=number * 3600 * SECOND)
        self.workers_there.append(Worker(self, process, f"w{number}"))
        return self.workers_there[-1]

    def fill_disk(self) -> None:
        """Let the kernel refuse every further record of the process that makes them."""
        makes = self.workers_there[0] if self.workers_there else self
        assert makes.share is not None
        os.dup2(os.open("/dev/full", os.O_WRONLY), makes.share.recorder._file._file)

    # A run.

    def run(self, *events: tuple[float, Callable[[], object]]) -> RunResult:
        """Make a run from its start to its end and return its result; each event happens at its time, seconds."""
        self.drain(*events)
        assert self.result is not None
        return self.result

    def drain(self, *events: tuple[float, Callable[[], object]]) -> RunController:
        """Make a run from its start to its end and return its controller."""
        for at, action in events:
            self.outside.spawn(partial(self._happen, at, action))
        self.world.run(self.process, self._run)
        assert self.controller is not None
        return self.controller

    def start(self) -> None:
        """Start a run, which goes on with :meth:`advance`."""
        self.process.spawn(self._run)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(self.outside, lambda: self.outside.sleep(seconds))

    def _run(self) -> None:
        self.process.sleep(0.1)
        try:
            self._begin()
        except (WorkerLost, UsageError) as refused:
            self.remark(str(refused))
            self.set_exit_status(refused.exit_status)
            return
        self.set_users(self.load.first_users(self.scenario, self.load.users) or 1)
        if self._run_time_s is not None:
            self.process.spawn(self._end_at_run_time)
        self._ended.wait()

    def _happen(self, at: float, action: Callable[[], object]) -> None:
        self.outside.sleep(at)
        action()

    def _begin(self) -> None:
        manifest = self._manifest()
        workers: list[str] = []
        if self.pool is not None:
            workers = self.pool.check_workers(forked=False, with_key=False)
            self.load.check_processes(self.load.users, len(workers))
        folder = RunFolder(self._results / manifest.run_id, manifest)
        whole = RunAssignment(
            run_id=manifest.run_id,
            number=0,
            shard=0,
            shards=1,
            scenario=manifest.scenario,
            engine="endpoint",
            model="m",
            host=manifest.host,
            sample=[Prompt(row, f"question {row}") for row in range(self.scenario.sample)],
            stop=(),
            planned=manifest.planned_requests,
            stop_timeout_s=self._stop_timeout_s,
            folder=str(folder.path),
            manifest=b"",
        )
        share = self.new_share(whole if self.pool is None else warm_up_only(whole), folder.path)
        setup = RunSetup(
            scenario=self.scenario,
            manifest=manifest,
            folder=folder,
            load=self.load,
            warm_up=[Prompt(1000 + n, "a question before") for n in range(self._warm_up)],
            stop_timeout_s=self._stop_timeout_s,
            began_ns=self.process.now(),
        )
        controller = RunController(setup, share, self, Monitor(), self.process)
        pool: WorkerPool = LocalPool(share, controller.reports)
        if self.pool is not None:
            self.pool.assign_shards(whole, workers, controller.reports)
            pool = self.pool
        self.controller = controller
        controller.start(pool, [self.observer])

    def _manifest(self) -> Manifest:
        return Manifest(
            run_id="run",
            kind=self.load.kind,
            engine="endpoint",
            model="m",
            host="http://h",
            simulated=False,
            scenario=asdict(self.scenario),
            users=self.load.users,
            run_time_s=self._run_time_s,
            planned_requests=self.load.planned_requests(self._run_time_s),
            dataset={"name": "samples", "sample_rows": list(range(self.scenario.sample))},
            server={},
            versions={},
            environment={},
            started_at="",
            anchor={"realtime_ns": 0, "monotonic_ns": self.process.now()},
            arrivals=self.load.arrivals(),
        )

    # What ends it, as the harness does.

    def end_process(self) -> None:
        """End the run."""
        self.end_run()

    def remark(self, text: str) -> None:
        """Note a sentence for the user."""
        self.said.append(text)

    def report_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """Note the error, and end the run."""
        if not isinstance(error, OSError):
            self.bugs.append(error)
        super().report_bug(error, logged=logged)

    def end_run(self) -> None:
        """End the run from within."""
        if self._ending is None:
            self._ending = self.process.spawn(self._end)

    def _end_at_run_time(self) -> None:
        self.process.sleep(self._run_time_s or 0)
        self.end_run()

    def _end(self) -> None:
        controller = self.controller
        assert controller is not None
        controller.stop()
        assert self.share is not None
        self.share.source.release()
        for worker in self.workers_there:
            if worker.share is not None and not worker.process.is_killed:
                worker.share.source.release()
        if self.has_result:
            self.result = controller.finish()
            self.take_result(self.result)
        for worker in self.workers_there:
            worker.process.spawn(worker.quit)
        self._ended.set()

    # Users, and Locust's tables.

    def set_users(self, users: int) -> None:
        """Have that many users, over all processes."""
        members: list[Member] = [*self.workers_there] or [self]
        for number, member in enumerate(members):
            mine = len(range(number, users, len(members)))
            if member is self:
                Member.set_users(self, mine)
            else:
                member.set_users(mine)

    def user_count(self) -> int | None:
        """Return the number of users; a master has none."""
        return None if self.pool is not None else Member.user_count(self)

    def measuring_begins(self) -> None:
        """Clear nothing."""

    # The transport.

    def send(self, kind: str, message: msgspec.Struct | None, worker: str) -> None:
        """Send a message to a worker."""
        receiver = next(w for w in self.workers_there if w.name == worker)
        if not receiver.process.is_killed:
            receiver.process.spawn(partial(self._deliver, receiver, kind, message))

    @staticmethod
    def _deliver(worker: Worker, kind: str, message: msgspec.Struct | None) -> None:
        worker.process.sleep(_TRAVEL_S)
        worker.take(kind, message)

    def send_up(self, worker: Worker, method: str, message: msgspec.Struct) -> None:
        """Send a worker's message to the pool."""
        assert self.pool is not None
        action = partial(getattr(self.pool, method), worker.name, message)
        self.process.spawn(partial(self._guarded, action))

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            self.process.sleep(_TRAVEL_S)
            action()
        except Exception as error:  # noqa: BLE001 as the harness's guard does
            self.report_bug(error)

    def workers(self) -> dict[str, bool]:
        """Return the workers that have not quit, and whether each answers."""
        return {w.name: self._answers(w) for w in self.workers_there if not w.has_quit}

    def _answers(self, worker: Worker) -> bool:
        """Whether a worker's heartbeats come; those of a frozen or killed one are missed after a while."""
        if not (worker.process.is_frozen or worker.process.is_killed):
            self._silent_since.pop(worker.name, None)
            return True
        since = self._silent_since.setdefault(worker.name, self.process.now())
        return self.process.now() - since < HEARTBEAT_LOST_S * SECOND

    def ended_forks(self) -> dict[int, str]:
        """Return none: workers are no child processes here."""
        return {}

    def forget_users(self, worker: str) -> None:
        """Forget nothing."""

    # What tests look at.

    @property
    def seconds(self) -> float:
        """Time since the start, by the first process's clock."""
        return (self.process.now() - START_NS) / SECOND

    @property
    def records(self) -> list[RequestRecord]:
        """The records of the run that has ended, on one clock."""
        assert self.result is not None
        manifest, records = read_run(self.result.folder)
        return on_one_clock(records, manifest.workers)

    @property
    def state(self) -> RunState | None:
        """The run's state, None before there is a run."""
        return None if self.controller is None else self.controller.state

    def assert_nothing_waits(self, *, bugs: bool = False) -> None:
        """Assert that no task waits for ever, and none has failed; ``bugs``: whether errors were to be reported."""
        self.advance(200.0)
        assert not self.world.waiting, self.world.waiting
        assert not self.world.errors, self.world.errors
        assert bool(self.bugs) is bugs, self.bugs

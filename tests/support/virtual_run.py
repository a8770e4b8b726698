"""Runs on virtual time: real controllers, load models, shares, pools and files; an engine and a Locust made of tasks.

:class:`VirtualLocust` takes the place of Locust and of the harness in one process, or in a master and its workers. It
does what they do, in their order: begins a run, starts users, ends the load when somebody wants it ended, then the run.
"""

import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from loadgen.clock import SECOND, Ns
from loadgen.errors import UsageError, WorkerLost
from loadgen.record import RequestRecord
from loadgen.results.clocks import on_one_clock
from loadgen.results.manifest import Manifest
from loadgen.results.store import RunFolder, read_folder
from loadgen.run.controller import RunController
from loadgen.run.host import RunSetup
from loadgen.run.load.model import LoadModel
from loadgen.run.messages import RunAssignment
from loadgen.run.pool import LocalPool, WorkerPool
from loadgen.run.remote_pool import RemotePool
from loadgen.run.result import RunResult
from loadgen.run.setup import without_users
from loadgen.run.state import RunState
from loadgen.run.supervisor import RunSupervisor
from loadgen.scenario import Scenario
from loadgen.workload.prompts import Prompt
from support.virtual_engine import Engine, Monitor, Observer
from support.virtual_time import START_NS, Task, World
from support.virtual_worker import Member, Worker

HEARTBEAT_LOST_S = 4.0
"""Locust takes a worker for lost after this long without a heartbeat."""
_TRAVEL_S = 0.001
"""A message takes this long."""


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
            self.load.check_processes([len(range(n, self.load.users, len(workers))) for n in range(len(workers))])
        folder = RunFolder(self._results / manifest.run_id, manifest)
        warm_up = [Prompt(1000 + n, "a question before") for n in range(self._warm_up)]
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
            users=self.load.users,
            warm_up=warm_up if self.load.users_warm_up else [],
            stop=(),
            planned=manifest.planned_requests,
            stop_timeout_s=self._stop_timeout_s,
            folder=str(folder.path),
            manifest=b"",
        )
        share = self.new_share(whole if self.pool is None else without_users(whole), folder.path)
        setup = RunSetup(
            manifest=manifest,
            folder=folder,
            load=self.load,
            warm_up=warm_up,
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
        manifest, records = read_folder(self.result.folder)
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

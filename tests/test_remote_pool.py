"""The workers of a master: what it takes of them, and when it does without them."""

import time

import msgspec
import pytest
from support.virtual_time import Process, World

from loadgen.clock import SECOND
from loadgen.errors import WorkerError, WorkerLost
from loadgen.measure.process_report import ProcessReport
from loadgen.run import messages
from loadgen.run.messages import ClockReading, RunAssignment, WorkerFailed, WorkerHello, WorkerReady
from loadgen.run.remote_pool import EXCHANGES, READY_S, RemotePool
from loadgen.version import VERSION

ASSIGNMENT = RunAssignment(
    run_id="this",
    number=0,
    shard=0,
    shards=1,
    scenario={},
    engine="endpoint",
    model="m",
    host="http://h",
    sample=[],
    stop=(),
    planned=None,
    stop_timeout_s=1.0,
    folder="/nowhere",
    manifest=b"",
)


class Workers:
    """Workers that answer at once, unless they are told otherwise. It is the transport, the master and the sink."""

    def __init__(self, process: Process, *names: str) -> None:
        self.there = dict.fromkeys(names, True)
        self.refuses: str | None = None
        self.is_ready = self.tells_time = True
        self.reports: list[ProcessReport] = []
        self.bugs: list[str] = []
        self.sent: list[tuple[str, msgspec.Struct | None, str]] = []
        self.wall_off_s = 0.0
        self.pool = RemotePool(self, self, process)

    def says_hello(self, name: str = "w", version: str = VERSION, *, has_key: bool = False) -> None:
        self.pool.take_hello(name, WorkerHello(version=version, host="h", pid=1, parent=None, has_key=has_key))

    def send(self, kind: str, message: msgspec.Struct | None, worker: str) -> None:
        self.sent.append((kind, message, worker))
        if isinstance(message, ClockReading) and self.tells_time:
            realtime = time.time_ns() + int(self.wall_off_s * SECOND)
            self.pool.take_time(worker, ClockReading(asked_ns=message.asked_ns, monotonic_ns=1, realtime_ns=realtime))
        if isinstance(message, RunAssignment) and self.is_ready:
            self.pool.take_ready(worker, WorkerReady(run_id=message.run_id, refused=self.refuses))

    def workers(self) -> dict[str, bool]:
        return self.there

    def ended_forks(self) -> dict[int, str]:
        return {}

    def forget_users(self, worker: str) -> None:
        del worker

    def worker_bug(self, worker: str) -> None:
        self.bugs.append(worker)

    def take(self, report: ProcessReport) -> None:
        self.reports.append(report)


def in_virtual_time(*names: str) -> tuple[World, Process, Workers]:
    world = World()
    process = world.process("master")
    return world, process, Workers(process, *names)


def assigned() -> Workers:
    world, process, workers = in_virtual_time("w")
    workers.says_hello()

    def assign() -> None:
        names = workers.pool.check_workers(forked=False, with_key=False)
        workers.pool.assign_shards(ASSIGNMENT, names, workers)

    world.run(process, assign)
    return workers


def a_report(run_id: str = "this", worker: int = 1, sequence: int = 1) -> ProcessReport:
    return ProcessReport(
        run_id=run_id,
        worker=worker,
        sequence=sequence,
        records=[],
        histograms={},
        started=sequence,
        in_flight=0,
        settled_ns=0,
        cpu_share=None,
    )


def test_reports_are_taken_once() -> None:
    workers = assigned()
    for sequence in (1, 1, 2, 1, 2, 3):
        workers.pool.take_report("w", a_report(sequence=sequence))
    assert [report.sequence for report in workers.reports] == [1, 2, 3]
    assert workers.pool.facts[0].started_requests == 3


def test_reports_of_others_are_dropped() -> None:
    workers = assigned()
    workers.pool.take_report("stranger", a_report())
    workers.pool.take_report("w", a_report(run_id="another"))
    workers.pool.take_report("w", a_report(worker=2))
    assert workers.reports == []
    assert workers.pool.facts[0].started_requests is None


def test_each_worker_gets_a_shard_of_its_own() -> None:
    world, process, workers = in_virtual_time("b", "a")
    for name in ("a", "b"):
        workers.says_hello(name)

    def assign() -> None:
        names = workers.pool.check_workers(forked=False, with_key=False)
        workers.pool.assign_shards(ASSIGNMENT, names, workers)

    world.run(process, assign)
    given = [(m.number, m.shard, m.shards, name) for _, m, name in workers.sent if isinstance(m, RunAssignment)]
    assert given == [(1, 0, 2, "a"), (2, 1, 2, "b")]
    questions = [name for kind, _, name in workers.sent if kind == messages.CLOCK]
    assert questions.count("a") >= EXCHANGES


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"version": "0.0.1"}, "has loadgen 0.0.1"),
        ({"has_key": False}, "has no API key"),
        ({"wall_off_s": 7.0}, r"\+7.0 s off"),
        ({"tells_time": False}, "does not answer"),
        ({"refuses": "it cannot"}, "cannot take part: it cannot"),
    ],
)
def test_a_worker_that_is_not_fit_is_named_with_the_reason(what: dict[str, object], message: str) -> None:
    world, process, workers = in_virtual_time("w")
    hello = {"has_key": True} | {k: v for k, v in what.items() if k in {"version", "has_key"}}
    for name, value in what.items():
        setattr(workers, name, value)
    workers.says_hello(**hello)  # type: ignore[arg-type]

    def assign() -> None:
        names = workers.pool.check_workers(forked=False, with_key=True)
        workers.pool.assign_shards(ASSIGNMENT, names, workers)

    with pytest.raises(WorkerError, match=message):
        world.run(process, assign)


def test_a_worker_that_is_gone_before_a_run_is_named_without_waiting_for_it() -> None:
    world, process, workers = in_virtual_time("w", "x")
    workers.says_hello("w")
    workers.tells_time = False
    began = world.time

    def check() -> None:
        process.spawn(lambda: workers.there.pop("x"))
        workers.pool.check_workers(forked=False, with_key=False)

    with pytest.raises(WorkerLost, match="worker x is gone, before the run began: it quit"):
        world.run(process, check)
    assert world.time - began < SECOND


def test_a_worker_that_does_not_get_ready_is_lost() -> None:
    world, process, workers = in_virtual_time("w")
    workers.says_hello()
    workers.is_ready = False

    def assign() -> None:
        names = workers.pool.check_workers(forked=False, with_key=False)
        workers.pool.assign_shards(ASSIGNMENT, names, workers)

    world.run(process, assign)
    assert workers.pool.lost() == [f"worker h, process 1: it was not ready in {READY_S:g} s"]


def test_a_bug_in_a_worker_is_passed_on_and_a_full_disk_is_only_noted() -> None:
    workers = assigned()
    workers.pool.take_failure("w", WorkerFailed(why="its disk is full", bug=False))
    assert workers.pool.lost() == ["worker h, process 1: its disk is full"]
    assert not workers.bugs
    workers.pool.take_failure("w", WorkerFailed(why="an error", bug=True))
    assert workers.bugs == ["worker h, process 1"]


def test_a_master_without_workers_says_how_to_start_some() -> None:
    world, process, workers = in_virtual_time()
    with pytest.raises(WorkerError, match="start some with --worker"):
        world.run(process, lambda: workers.pool.check_workers(forked=False, with_key=False))

"""The processes that make a run's requests, as whoever conducts it sees them: itself, or Locust's workers."""

import logging
import os
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol

import gevent
import msgspec
from locust.runners import STATE_MISSING, MasterRunner

from loadgen.clock import now
from loadgen.errors import UsageError
from loadgen.harness import messages
from loadgen.harness.clocks import WALL_LIMIT_S, Offset, is_far_off, offset
from loadgen.harness.forked import Forked
from loadgen.harness.messages import Clock, Failed, Go, Hello, Orders, Ready, Report
from loadgen.harness.packets import listener
from loadgen.harness.part import Part
from loadgen.measure.facts import WorkerFacts
from loadgen.version import VERSION

logger = logging.getLogger(__name__)

HELLO_S = 10.0
"""A worker that Locust knows has so long to say what it is; longer, and it runs something else."""

READY_S = 30.0
"""It has so long to open its files."""

EXCHANGES = 7
"""Questions about its clock, of which the fastest counts."""

LAST_REPORT_S = 15.0
"""A worker has so long for its last report, once nothing of it is in flight."""

KILLED = "it stopped answering: killed, or cut off"

P = ParamSpec("P")


class Team(Protocol):
    """Who makes the requests."""

    facts: list[WorkerFacts]
    late: list[WorkerFacts]
    """Those that came when the run was going on, and have no part in it."""

    def go(self, go: Go) -> None:
        """Let all begin, or go on with the next step."""

    def collect(self) -> None:
        """Have reports taken that do not come by themselves."""

    def lost(self) -> list[str]:
        """Return what has happened to those that are gone, in words."""

    def finish(self, timeout: float) -> None:
        """Have nothing more made, wait for what is in flight, and for all last reports."""


class Alone:
    """One process that does all."""

    def __init__(self, part: Part, take: Callable[[Report], None]) -> None:
        self.facts = [this_process()]
        self.late: list[WorkerFacts] = []
        self._part = part
        self._take = take

    def go(self, go: Go) -> None:
        """Begin, or go on."""
        self._part.go(go)

    def collect(self) -> None:
        """Take what has ended since the last time."""
        self._take(self._part.report())

    def lost(self) -> list[str]:
        """Return nothing: we are here."""
        return []

    def finish(self, timeout: float) -> None:
        """Take the last report: whoever conducts has waited for what was in flight."""
        del timeout
        self._take(self._part.report(last=True))


def this_process() -> WorkerFacts:
    """Return what is to be said of the process that conducts."""
    return WorkerFacts(number=0, name="this process", host=os.uname().nodename, pid=os.getpid())


@dataclass(eq=False)
class Worker:
    """One of Locust's workers."""

    client_id: str
    hello: Hello | None = None
    offset: Offset | None = None
    facts: WorkerFacts | None = None
    """Its place in the run; None while it has none."""
    ready: Ready | None = None
    failed: str | None = None
    """Why it cannot go on with its part."""
    sequence: int = 0
    ended: bool = False
    """Its last report is here."""
    exchanges: int = 0
    """Answers of it about its clock."""

    def has_greeted(self) -> bool:
        """Whether it has said what it is."""
        return self.hello is not None


class WorkerLost(Exception):  # noqa: N818 it is the worker that is lost
    """A worker is gone before the run could begin; the text names it."""


class Master(Protocol):
    """Who hears the workers."""

    def guard(self, action: Callable[P, object]) -> Callable[P, None]:
        """Return an action that ends the run where it raises."""

    def note_workers_bug(self, worker: str) -> None:
        """Note that code of ours failed in a worker."""


class Workers:
    """All of Locust's workers; made once for a master, before any of them is heard.

    ``forked``: what became of those that are our own children (``--processes``).
    """

    def __init__(self, runner: MasterRunner, master: Master, forked: Forked | None = None) -> None:
        self.facts: list[WorkerFacts] = []
        self.late: list[WorkerFacts] = []
        self._runner = runner
        self._workers: dict[str, Worker] = {}
        self._run_id: str | None = None
        self._take: Callable[[Report], None] = lambda _: None
        self._strangers: set[str] = set()
        self._master = master
        self._forked = forked
        listeners = {
            messages.HELLO: listener(Hello, self._greeted),
            messages.CLOCK: listener(Clock, self._told_time),
            messages.READY: listener(Ready, self._is_ready),
            messages.FAILED: listener(Failed, self._has_failed, msgspec.convert),
        }
        for name, listen in listeners.items():
            runner.register_message(name, master.guard(listen))

    def gone(self, *, forks_only: bool) -> str | None:
        """Return which worker that was forked, or had joined, is gone, and how; None if all are there."""
        for pid, how in self._ended_forks().items():
            return f"worker process {pid} is gone ({how})"
        for client in [] if forks_only else self._runner.clients.missing:
            return f"worker {_name(self._worker(client.id))} is gone ({KILLED})"
        return None

    def silent(self) -> str | None:
        """Return which worker has not answered what it was asked before a run; None if all have."""
        silent = [_name(w) for w in map(self._worker, self._present()) if w.exchanges < EXCHANGES]
        return f"worker {', '.join(silent)} had not answered" if silent else None

    def too_few(self, options: Namespace) -> str:
        """Return the message that too few have come in time."""
        return (
            f"{len(self._present())} of {options.expect_workers} workers came in "
            f"{options.expect_workers_max_wait:g} s: start them with --worker --master-host HOST --master-port "
            f"{options.master_bind_port} and the same locustfile, or raise --expect-workers-max-wait."
        )

    def muster(self, *, forked: bool, has_key: bool) -> None:
        """See that all workers are fit for a run.

        ``forked``: they are our own children (``--processes``). Raises UsageError naming one that is not fit, and
        WorkerLost naming one that is gone.
        """
        present = self._present()
        if not present:
            raise UsageError("no worker has joined: start some with --worker --master-host HOST.")
        for worker in (self._worker(c) for c in present):
            if worker.hello is not None:
                worker.offset, worker.exchanges = None, 0
                self._ask_time(worker)
        workers = [self._worker(client_id) for client_id in present]
        _wait(lambda: all(w.exchanges >= EXCHANGES for w in workers) or any(map(self._fate, workers)), HELLO_S)
        for worker in workers:
            if fate := self._fate(worker):
                raise WorkerLost(f"worker {_name(worker)} is gone, before the run began: {fate}")
        for client_id in present:
            _check(self._worker(client_id), forked=forked, has_key=has_key)

    def enlist(self, whole: Orders, take: Callable[[Report], None]) -> None:
        """Give each worker its share and wait until all are ready; raises UsageError where one cannot do its part."""
        present = self._present()
        self._take = take
        self.facts, self.late = [], []
        for number, client_id in enumerate(present, start=1):
            worker = self._worker(client_id)
            assert worker.hello is not None
            assert worker.offset is not None
            worker.ready, worker.failed, worker.sequence, worker.ended = None, None, 0, False
            worker.facts = WorkerFacts(
                number=number,
                name=client_id,
                host=worker.hello.host,
                pid=worker.hello.pid,
                clock_offset_ns=worker.offset.monotonic_ns,
                clock_uncertainty_ns=worker.offset.uncertainty_ns,
                wall_offset_ms=worker.offset.wall_ms,
            )
            self.facts.append(worker.facts)
            order = msgspec.structs.replace(whole, number=number, shard=number - 1, shards=len(present))
            self._run_id = order.run_id
            self._runner.send_message(messages.BEGIN, messages.pack(order), client_id)
        _wait(lambda: all(w.ready or self._fate(w) for w in self._mine()), READY_S)
        for worker in self._mine():
            assert worker.facts is not None
            if worker.ready is None and self._fate(worker) is None:
                worker.facts.lost = f"it was not ready in {READY_S:g} s"
            if worker.ready is not None and worker.ready.refused is not None:
                raise UsageError(f"worker {_name(worker)} cannot take part: {worker.ready.refused}")

    def go(self, go: Go) -> None:
        """Let all begin, or go on, each by its own clock."""
        for worker in self._mine():
            assert worker.facts is not None
            epoch = None if go.epoch_ns is None else go.epoch_ns - worker.facts.clock_offset_ns
            mine = msgspec.structs.replace(go, epoch_ns=epoch)
            self._runner.send_message(messages.GO, messages.pack(mine), worker.client_id)

    def collect(self) -> None:
        """Do nothing: workers report by themselves."""

    def lost(self) -> list[str]:
        """Note what has happened to workers that are gone, and to the load by those that came late."""
        found = []
        for worker in self._mine():
            assert worker.facts is not None
            if worker.facts.lost is None:
                worker.facts.lost = worker.failed or self._fate(worker)
            if worker.facts.lost is not None:
                found.append(f"worker {_name(worker)}: {worker.facts.lost}")
        self._note_late()
        return found + [f"worker {facts.name}: {facts.lost}" for facts in self.late]

    def finish(self, timeout: float) -> None:
        """Have all finish, wait for them, and for their last reports."""
        for worker in self._mine():
            self._runner.send_message(messages.FINISH, None, worker.client_id)
        due = time.monotonic() + timeout + LAST_REPORT_S
        while time.monotonic() < due and not all(w.ended or self._fate(w) for w in self._mine()):
            gevent.sleep(0.05)
        for worker in self._mine():
            assert worker.facts is not None
            if not worker.ended and worker.facts.lost is None:
                worker.facts.lost = self._fate(worker) or "its last report did not come"
            client = self._runner.clients.get(worker.client_id)
            if client is not None and self._fate(worker):
                client.user_classes_count = {}  # Locust waits until its users are gone
        self._run_id = None

    def abort(self) -> None:
        """Have all abort what they have in flight."""
        for worker in self._mine():
            self._runner.send_message(messages.ABORT, None, worker.client_id)

    def heard(self, client_id: str, data: dict[str, Any]) -> None:
        """Take one of Locust's reports; drops what is of another run, and what has come before."""
        packed = data.pop(messages.REPORT, None)
        if packed is None:
            return
        try:
            report = messages.unpack(packed, Report)
        except msgspec.DecodeError as error:
            logger.warning("A report of %s cannot be read (%s) and is dropped", client_id, error)
            return
        worker = self._workers.get(client_id)
        mine = worker is not None and worker.facts is not None and worker.facts.number == report.worker
        if worker is None or not mine or report.run_id != self._run_id:
            if client_id not in self._strangers:
                self._strangers.add(client_id)
                logger.warning("Reports of %s are of another run (%s) and are dropped", client_id, report.run_id)
            return
        if report.sequence <= worker.sequence:
            logger.warning("Report %d of %s came twice; it is dropped", report.sequence, client_id)
            return
        worker.sequence = report.sequence
        worker.ended = report.instrument is not None
        assert worker.facts is not None
        worker.facts.started_requests = report.started
        self._take(report)

    def _note_late(self) -> None:
        known = {facts.name for facts in (*self.facts, *self.late)}
        for client_id in [c for c in self._present() if c not in known]:
            worker = self._worker(client_id)
            _wait(worker.has_greeted, 1.0)
            self.late.append(
                WorkerFacts(
                    number=len(self.facts) + len(self.late) + 1,
                    name=client_id,
                    host=client_id if worker.hello is None else worker.hello.host,
                    pid=0 if worker.hello is None else worker.hello.pid,
                    started_requests=0,
                    lost="it came while the run went on, and Locust gave it users of the others",
                )
            )

    def _mine(self) -> Iterable[Worker]:
        return [w for w in self._workers.values() if w.facts is not None and w.facts in self.facts]

    def _worker(self, client_id: str) -> Worker:
        return self._workers.setdefault(client_id, Worker(client_id))

    def _present(self) -> list[str]:
        return sorted(c.id for c in self._runner.clients.all if c.state != STATE_MISSING)

    def _fate(self, worker: Worker) -> str | None:
        """Return what has happened to a worker, None if it is there."""
        if worker.hello is not None and (how := self._ended_forks().get(worker.hello.pid)):
            return how
        client = self._runner.clients.get(worker.client_id)
        if client is None:
            return "it quit"
        return KILLED if client.state == STATE_MISSING else None

    def _ended_forks(self) -> dict[int, str]:
        return {} if self._forked is None else self._forked.ended()

    def _greeted(self, client_id: str, hello: Hello) -> None:
        worker = self._worker(client_id)
        worker.hello = hello
        self._ask_time(worker)

    def _ask_time(self, worker: Worker) -> None:
        self._runner.send_message(messages.CLOCK, messages.pack(Clock(asked_ns=now())), worker.client_id)

    def _told_time(self, client_id: str, clock: Clock) -> None:
        found = offset(clock, now(), time.time_ns())
        worker = self._worker(client_id)
        worker.exchanges += 1
        if worker.offset is None or found.uncertainty_ns <= worker.offset.uncertainty_ns:
            worker.offset = found
        if worker.exchanges < EXCHANGES:
            self._ask_time(worker)

    def _is_ready(self, client_id: str, ready: Ready) -> None:
        self._worker(client_id).ready = ready

    def _has_failed(self, client_id: str, failed: Failed) -> None:
        worker = self._worker(client_id)
        worker.failed = failed.why
        if failed.bug:
            self._master.note_workers_bug(f"worker {_name(worker)}")


def _check(worker: Worker, *, forked: bool, has_key: bool) -> None:
    """Raise UsageError unless a worker is of our kind."""
    hello, found = worker.hello, worker.offset
    if hello is None or found is None:
        raise UsageError(
            f"worker {_name(worker)} does not answer: it runs another version of loadgen, or none. "
            f"Start it with the same locustfile and loadgen {VERSION}."
        )
    if hello.version != VERSION:
        raise UsageError(
            f"worker {_name(worker)} has loadgen {hello.version}, the master has {VERSION}: install the same on both."
        )
    if forked and hello.parent != os.getpid():
        raise UsageError(
            f"worker {_name(worker)} is not one of our processes: another master's, on the same --master-bind-port? "
            "Give each run a port of its own, or use --master with --worker."
        )
    if has_key and not hello.has_key:
        raise UsageError(f"worker {_name(worker)} has no API key: set OPENAI_API_KEY there too; it is not sent to it.")
    if is_far_off(found):
        raise UsageError(
            f"the wall clock of worker {_name(worker)} is {found.wall_ms / 1000:+.1f} s off the master's, more than "
            f"{WALL_LIMIT_S:g} s: set its clock (chrony, ntpd)."
        )


def _name(worker: Worker) -> str:
    return worker.client_id if worker.hello is None else f"{worker.hello.host}, process {worker.hello.pid}"


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    due = time.monotonic() + seconds
    while not condition() and time.monotonic() < due:
        gevent.sleep(0.02)

"""The workers of a master: how they join, get their shares, report, and get lost.

A worker says hello when it joins, and answers questions about its clock. Before a run all are checked; each gets a
shard and answers that it is ready. Then steps are started, and reports arrive by themselves. A worker that is gone, or
that fails, is noted in its facts; the controller asks for them and ends the load.
"""

import logging
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from loadgen.errors import WorkerError, WorkerLost
from loadgen.measure.facts import WorkerFacts
from loadgen.measure.process_report import ProcessReport
from loadgen.run import messages
from loadgen.run.clocks import offset
from loadgen.run.messages import ClockReading, RunAssignment, StartStep, WorkerFailed, WorkerHello, WorkerReady
from loadgen.run.pool import ReportSink
from loadgen.run.runtime import Runtime, wait_until
from loadgen.run.worker_handle import STOPPED_ANSWERING, Transport, WorkerHandle, with_shard

logger = logging.getLogger(__name__)

HELLO_S = 10.0
"""A worker that has joined has this long to say hello; one that does not runs something else."""

READY_S = 30.0
"""It has this long to open its files."""

EXCHANGES = 7
"""Questions about a worker's clock; the fastest exchange counts."""

MOST_CHECKS = 5
"""Workers are checked anew this often if others join meanwhile."""

LAST_REPORT_S = 15.0
"""A worker has this long for its last report, once none of its requests is in flight."""

LATE_HELLO_S = 5.0
"""A worker that joins during a run has this long, from the end of the run, to say who it is."""


class Master(Protocol):
    """Learns what goes wrong in workers."""

    def worker_bug(self, worker: str) -> None:
        """Note that code of ours failed in a worker."""


class RemotePool:
    """All workers of a master. It is made once, before any of them joins."""

    def __init__(self, transport: Transport, master: Master, runtime: Runtime) -> None:
        self.facts: list[WorkerFacts] = []
        self.late: list[WorkerFacts] = []
        self._transport, self._master, self._runtime = transport, master, runtime
        self._handles: dict[str, WorkerHandle] = {}
        self._run_id: str | None = None
        self._sink: ReportSink | None = None
        self._strangers: set[str] = set()

    # Before a run.

    def gone(self, *, forks_only: bool) -> str | None:
        """Return which worker that was forked, or had joined, is gone, and how; None if all are there."""
        for pid, how in self._transport.ended_forks().items():
            return f"worker process {pid} is gone ({how})"
        for client_id, answers in [] if forks_only else self._transport.workers().items():
            if not answers:
                return f"worker {self._handle(client_id).name} is gone ({STOPPED_ANSWERING})"
        return None

    def silent(self) -> str | None:
        """Return which worker has not answered what it was asked before a run; None if all have."""
        silent = [w.name for w in map(self._handle, self.present()) if w.exchanges < EXCHANGES]
        return f"worker {', '.join(silent)} had not answered" if silent else None

    def present(self) -> list[str]:
        """Return the workers that answer."""
        return sorted(client_id for client_id, answers in self._transport.workers().items() if answers)

    def check_workers(self, *, forked: bool, with_key: bool) -> list[str]:
        """Check that all workers can take part in a run, measure their clocks, and return their ids.

        ``forked``: they must be our own child processes (``--processes``). Raises WorkerError naming one that cannot,
        and WorkerLost naming one that is gone.
        """
        for _ in range(MOST_CHECKS):
            checked = self.present()
            if not checked:
                raise WorkerError("no worker has joined: start some with --worker --master-host HOST.")
            self._check([self._handle(client_id) for client_id in checked], forked=forked, with_key=with_key)
            if self.present() == checked:  # else others have joined meanwhile
                return checked
        raise WorkerError("workers keep joining; start the run when all of them are there.")

    def _check(self, workers: Sequence[WorkerHandle], *, forked: bool, with_key: bool) -> None:
        for worker in workers:
            if worker.hello is not None:
                worker.offset, worker.exchanges = None, 0
                self._ask_time(worker)
        wait_until(
            self._runtime,
            lambda: all(w.exchanges >= EXCHANGES for w in workers) or any(map(self._fate, workers)),
            HELLO_S,
        )
        for worker in workers:
            if fate := self._fate(worker):
                raise WorkerLost(f"worker {worker.name} is gone, before the run began: {fate}")
        for worker in workers:
            worker.check(forked=forked, with_key=with_key)

    def assign_shards(self, assignment: RunAssignment, workers: Sequence[str], sink: ReportSink) -> None:
        """Give each of these workers, which have been checked, its share, and wait until all are ready.

        Raises WorkerError naming one that cannot take it.
        """
        self._sink = sink
        self.facts, self.late = [], []
        self._run_id = assignment.run_id
        for number, client_id in enumerate(workers, start=1):
            self.facts.append(self._handle(client_id).assign(number))
            self._transport.send(messages.ASSIGN, with_shard(assignment, number, len(workers)), client_id)
        wait_until(self._runtime, lambda: all(w.ready or self._fate(w) for w in self._assigned()), READY_S)
        for worker in self._assigned():
            assert worker.facts is not None
            if worker.ready is None and self._fate(worker) is None:
                worker.facts.lost = f"it was not ready in {READY_S:g} s"
            if worker.ready is not None and worker.ready.refused is not None:
                raise WorkerError(f"worker {worker.name} cannot take part: {worker.ready.refused}")

    # During a run.

    def start_warm_up(self) -> None:
        """Let the users of all workers send the requests of the warm-up."""
        for worker in self._assigned():
            self._transport.send(messages.START_WARM_UP, None, worker.client_id)

    def start_step(self, step: StartStep) -> None:
        """Let all start the load, or its next step, each by its own clock."""
        for worker in self._assigned():
            assert worker.facts is not None
            epoch = None if step.epoch_ns is None else step.epoch_ns - worker.facts.clock_offset_ns
            mine = msgspec.structs.replace(step, epoch_ns=epoch)
            self._transport.send(messages.START_STEP, mine, worker.client_id)

    def collect(self) -> None:
        """Do nothing: workers report by themselves."""

    def lost(self) -> list[str]:
        """Record lost and late workers in their facts; return a sentence about each."""
        lost = []
        for worker in self._assigned():
            assert worker.facts is not None
            if worker.facts.lost is None:
                worker.facts.lost = worker.failed or self._fate(worker)
            if worker.facts.lost is not None:
                lost.append(f"worker {worker.name}: {worker.facts.lost}")
        self._note_late()
        return lost + [f"worker {facts.name}: {facts.lost}" for facts in self.late]

    def finish(self, timeout: float) -> None:
        """Let all drain, and wait for their last reports."""
        for worker in self._assigned():
            self._transport.send(messages.FINISH, None, worker.client_id)
        wait_until(
            self._runtime,
            lambda: all(w.is_ended or self._fate(w) for w in self._assigned()),
            timeout + LAST_REPORT_S,
            every=0.05,
        )
        for worker in self._assigned():
            assert worker.facts is not None
            if not worker.is_ended and worker.facts.lost is None:
                worker.facts.lost = self._fate(worker) or "its last report did not come"
            if self._fate(worker):
                self._transport.forget_users(worker.client_id)
        self._name_late()
        self._run_id = None

    def abort(self) -> None:
        """Let all cancel their requests in flight."""
        for worker in self._assigned():
            self._transport.send(messages.ABORT, None, worker.client_id)

    # What workers send.

    def take_hello(self, client_id: str, hello: WorkerHello) -> None:
        """Note what a worker is, and ask for its time."""
        worker = self._handle(client_id)
        worker.hello = hello
        self._ask_time(worker)

    def take_time(self, client_id: str, reading: ClockReading) -> None:
        """Compare a worker's clock with ours; the fastest exchange counts."""
        measured = offset(reading, self._runtime.now(), time.time_ns())
        worker = self._handle(client_id)
        worker.exchanges += 1
        if worker.offset is None or measured.uncertainty_ns <= worker.offset.uncertainty_ns:
            worker.offset = measured
        if worker.exchanges < EXCHANGES:
            self._ask_time(worker)

    def take_ready(self, client_id: str, ready: WorkerReady) -> None:
        """Note that a worker has its share, or why it cannot take it."""
        self._handle(client_id).ready = ready

    def take_failure(self, client_id: str, failure: WorkerFailed) -> None:
        """Note that a worker cannot go on."""
        worker = self._handle(client_id)
        worker.failed = failure.why
        if failure.bug:
            self._master.worker_bug(f"worker {worker.name}")

    def take_report(self, client_id: str, report: ProcessReport) -> None:
        """Pass a report on; drop it if it belongs to another run, or has arrived before."""
        worker = self._handles.get(client_id)
        is_assigned = worker is not None and worker.facts is not None and worker.facts.number == report.worker
        if worker is None or not is_assigned or report.run_id != self._run_id:
            if client_id not in self._strangers:
                self._strangers.add(client_id)
                logger.warning("Reports of %s are of another run (%s) and are dropped", client_id, report.run_id)
            return
        if report.sequence <= worker.sequence:
            logger.warning("Report %d of %s came twice; it is dropped", report.sequence, client_id)
            return
        worker.sequence = report.sequence
        worker.is_ended = report.is_last
        assert worker.facts is not None
        worker.facts.started_requests = report.started
        assert self._sink is not None
        self._sink.take(report)

    def _note_late(self) -> None:
        known = {facts.name for facts in (*self.facts, *self.late)}
        for client_id in [c for c in self.present() if c not in known]:
            self.late.append(self._handle(client_id).late_facts(len(self.facts) + len(self.late) + 1))

    def _name_late(self) -> None:
        """Complete the facts of late workers with what they say of themselves, which they do after they join."""
        workers = [self._handle(facts.name) for facts in self.late]
        wait_until(self._runtime, lambda: all(w.hello or self._fate(w) for w in workers), LATE_HELLO_S)
        self.late = [w.late_facts(facts.number) for w, facts in zip(workers, self.late, strict=True)]

    def _assigned(self) -> list[WorkerHandle]:
        return [w for w in self._handles.values() if w.facts is not None and w.facts in self.facts]

    def _handle(self, client_id: str) -> WorkerHandle:
        return self._handles.setdefault(client_id, WorkerHandle(client_id))

    def _fate(self, worker: WorkerHandle) -> str | None:
        """Return what has happened to a worker, None if it is there."""
        if worker.hello is not None and (how := self._transport.ended_forks().get(worker.hello.pid)):
            return how
        answers = self._transport.workers().get(worker.client_id)
        if answers is None:
            return "it quit"
        return None if answers else STOPPED_ANSWERING

    def _ask_time(self, worker: WorkerHandle) -> None:
        self._transport.send(messages.CLOCK, ClockReading(asked_ns=self._runtime.now()), worker.client_id)

"""A Locust worker: does its part in the runs that its master conducts."""

import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.runners import WorkerRunner
from msgspec.structs import replace

from loadgen.errors import DISK_ERRORS, UsageError
from loadgen.harness import accept, messages, start
from loadgen.harness.key_hosts import given_hosts, key_hosts
from loadgen.harness.messages import Clock, Failed, Go, Hello, Orders, Ready
from loadgen.harness.packets import listener
from loadgen.harness.part import Part
from loadgen.harness.process import BUG, Process
from loadgen.results.store import RecordFile, records_path
from loadgen.version import VERSION

logger = logging.getLogger(__name__)

MASTER_LOST_S = 8.0
"""A master answers a heartbeat each second; after so long without an answer it is gone, and the load ends."""

LOST = 4
"""Exit status of a worker whose master is gone: inconclusive."""


class WorkerSession(Process):
    """Joins a worker's life cycle to the runs of its master."""

    def __init__(self, environment: Environment, runner: WorkerRunner, options: Namespace, parent: int | None) -> None:
        super().__init__(environment, runner, options)
        self._worker = runner
        self._parent = parent
        self._own = accept.Own(
            Path(options.results), options.engine, options.tokenizer, key_hosts(given_hosts(environment))
        )
        self._drained = self._told_all = False
        self._interrupted = False
        self._heard_at = time.monotonic()
        listeners: dict[str, Callable[..., None]] = {
            messages.CLOCK: listener(Clock, self._tell_time),
            messages.BEGIN: listener(Orders, self._begin),
            messages.GO: listener(Go, self._go),
            messages.FINISH: self._finish,
            messages.ABORT: self._abort,
        }
        for name, listen in listeners.items():
            runner.register_message(name, self.guard(listen))
        environment.process_exit_code = 0  # the server's faults are the master's to judge
        self._greet()
        self.spawn(self._watch_master)

    def report(self, data: dict[str, Any]) -> None:
        """Add what we have to Locust's report."""
        if self.part is None or self._told_all:
            return
        self._told_all = self._drained
        data[messages.REPORT] = messages.pack(_lean(self.part.report(last=self._drained)))

    def heartbeat(self) -> None:
        """Note that the master lives."""
        self._heard_at = time.monotonic()

    def quitting(self) -> None:
        """End our part before Locust tells the master that we are gone: it would not wait for what is in flight."""
        self._end_part()

    def stopping(self) -> None:
        """End our part before Locust stops the users; where the master has asked for that, it is over already."""
        part = self.part
        try:
            self._end_part()
        finally:
            if part is not None:
                part.release()
        self.environment.stop_timeout = 0.0  # Locust would sleep for it afterwards; the next start sets it anew

    def finish(self) -> None:
        """Have no part in the run any more."""
        self.leave()

    def refuse(self, status: int) -> None:
        """Note that we cannot do our part; the master has been told."""

    def note_bug(self, error: BaseException, *, logged: bool = False) -> None:
        """Tell the master that code of ours raised, and end; a full disk it is told, too, and the run goes on there."""
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            self.note_full_disk(error)
            return
        if self.environment.process_exit_code == BUG:
            return
        self.environment.process_exit_code = BUG
        if not logged:
            logger.error("An error in loadgen ends this worker", exc_info=error)
        gevent.spawn(self._worker.quit)
        self._tell_failure(f"an error in loadgen ({type(error).__name__}: {error})", bug=True)

    def note_full_disk(self, error: OSError) -> None:
        """Tell the master that our records are not complete."""
        self._tell_failure(f"{error.filename or 'a file'} cannot be written ({error.strerror})", bug=False)

    def interrupt(self) -> None:
        """Leave the run to the master while there is one: an interrupt from a terminal hits all processes at once.

        The second one is meant for us.
        """
        if self.part is not None and self._interrupted:
            self.part.finish()
            self.abort()
        if self.part is None or self._interrupted:
            self._worker.quit()
        self._interrupted = True

    def _tell_failure(self, why: str, *, bug: bool) -> None:
        logger.error("%s: telling the master", why)
        self._worker.send_message(messages.FAILED, msgspec.to_builtins(Failed(why=why, bug=bug)))

    def _greet(self) -> None:
        hello = Hello(
            version=VERSION, host=os.uname().nodename, pid=os.getpid(), parent=self._parent, has_key=start.has_key()
        )
        self._worker.send_message(messages.HELLO, messages.pack(hello))

    def _tell_time(self, _: str, asked: Clock) -> None:
        answer = Clock(asked_ns=asked.asked_ns, monotonic_ns=time.monotonic_ns(), realtime_ns=time.time_ns())
        self._worker.send_message(messages.CLOCK, messages.pack(answer))

    def _begin(self, _: str, orders: Orders) -> None:
        refused = None
        try:
            self._take_orders(orders)
        except UsageError as error:
            refused = str(error)
            sys.stderr.write(f"loadgen: {refused}\n")
        ready = Ready(run_id=orders.run_id, refused=refused)
        self._worker.send_message(messages.READY, messages.pack(ready))

    def _take_orders(self, orders: Orders) -> None:
        self.leave()
        scenario = accept.scenario_of(orders, self._own)
        settings = accept.settings(orders, scenario, self._own)
        folder = accept.folder_of(orders, self._own)
        part = Part(
            orders,
            scenario,
            RecordFile(records_path(folder, orders.number)),
            on_record=self.show_in_tables,
            on_done=self._report_soon,
            count_users=lambda: self._worker.user_count,
        )
        self._drained = self._told_all = False
        self.take_part(part, settings)
        logger.info("Part %d of run %s: records go to %s", orders.number, orders.run_id, folder)

    def _go(self, _: str, go: Go) -> None:
        if self.part is not None:
            self.part.go(go)

    def _finish(self, **_: Any) -> None:  # noqa: ANN401
        self.spawn(self._end_part)  # not here: while this greenlet waits, no heartbeat is heard

    def _abort(self, **_: Any) -> None:  # noqa: ANN401
        self.spawn(self.abort)

    def _end_part(self) -> None:
        """Drain, and tell the master what is left to tell."""
        part = self.part
        if part is None or self._told_all:
            return
        self.drain(part.orders.stop_timeout_s)
        if self.part is not part or self._told_all:  # ended meanwhile by another event
            return
        self._drained = True
        if part.put_back():
            self._note_loss()
        self._worker._send_stats()  # noqa: SLF001 as Locust's own reporter does

    def _note_loss(self) -> None:
        """Note that the run goes on, or has ended, without us."""
        if self.environment.process_exit_code != LOST:
            self.environment.process_exit_code = LOST
            logger.error("Our records are on disk; `loadgen report` on the run's folder puts together what there is")

    def _report_soon(self) -> None:
        self.spawn(self._worker._send_stats)  # noqa: SLF001 as Locust's own reporter does

    def _has_lost_master(self) -> bool:
        """Whether the process that forked us has ended, or our master has been silent too long in mid-run."""
        if self._parent is not None and os.getppid() != self._parent:
            return True
        if self.part is None:
            self.heartbeat()
        return time.monotonic() - self._heard_at > MASTER_LOST_S

    def _watch_master(self) -> None:
        """End where the master has gone: Locust would go on for a minute."""
        while not self._has_lost_master():
            gevent.sleep(1)
        logger.error("The master is gone: ending")
        part = self.part
        if part is not None:
            self._note_loss()
            self.drain(part.orders.stop_timeout_s)
            if self.part is part:  # else the master's last word has ended it meanwhile
                part.put_back()
        self.environment.process_exit_code = LOST
        self._told_all = True
        self._worker.quit()


def _lean(report: messages.Report) -> messages.Report:
    """Leave out the arrival of each chunk: they stay on the worker's disk."""
    return replace(report, records=[replace(r, chunk_ns=None) if r.chunk_ns else r for r in report.records])

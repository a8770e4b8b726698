"""Carries our messages between a master and its workers in Locust's own."""

import logging
from typing import Any

import msgspec
from locust.runners import STATE_MISSING, MasterRunner

from loadgen.harness.forked import Forked
from loadgen.harness.packets import listener
from loadgen.harness.process import LocustProcess
from loadgen.measure.process_report import ProcessReport
from loadgen.run import messages
from loadgen.run.messages import ClockReading, WorkerFailed, WorkerHello, WorkerReady
from loadgen.run.remote_pool import RemotePool

logger = logging.getLogger(__name__)


class LocustTransport:
    """The master's connection to its workers. ``forked``: the child processes of ``--processes``, None without it."""

    def __init__(self, runner: MasterRunner, forked: Forked | None) -> None:
        self._runner = runner
        self._forked = forked

    def send(self, kind: str, message: msgspec.Struct | None, worker: str) -> None:
        """Send a message of a kind to a worker."""
        self._runner.send_message(kind, None if message is None else messages.pack(message), worker)

    def workers(self) -> dict[str, bool]:
        """Return the workers that have joined and not quit, and whether each answers."""
        return {client.id: client.state != STATE_MISSING for client in self._runner.clients.all}

    def ended_forks(self) -> dict[int, str]:
        """Return our own child processes that have ended: by process id, how."""
        return {} if self._forked is None else self._forked.ended()

    def forget_users(self, worker: str) -> None:
        """Keep Locust from waiting for the users of a worker that is gone."""
        client = self._runner.clients.get(worker)
        if client is not None:
            client.user_classes_count = {}


def listen_to_workers(runner: MasterRunner, pool: RemotePool, process: LocustProcess) -> None:
    """Pass the messages of workers to the pool."""
    listeners = {
        messages.HELLO: listener(WorkerHello, pool.take_hello),
        messages.CLOCK: listener(ClockReading, pool.take_time),
        messages.READY: listener(WorkerReady, pool.take_ready),
        messages.FAILED: listener(WorkerFailed, pool.take_failure, msgspec.convert),
    }
    for name, listen in listeners.items():
        runner.register_message(name, process.guard(listen))

    def take(client_id: str, data: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 whatever Locust adds
        packed = data.pop(messages.REPORT, None)
        if packed is None:
            return
        try:
            report = messages.unpack(packed, ProcessReport)
        except msgspec.DecodeError as error:
            logger.warning("A report of %s cannot be read (%s) and is dropped", client_id, error)
            return
        pool.take_report(client_id, report)

    runner.environment.events.worker_report.add_listener(process.guard(take))

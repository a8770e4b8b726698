"""One worker, as its master sees it, and whether it is fit for a run."""

import os
from dataclasses import dataclass
from typing import Protocol

import msgspec

from loadgen.errors import WorkerError
from loadgen.measure.facts import WorkerFacts
from loadgen.run.clocks import WALL_LIMIT_S, ClockOffset, is_far_off
from loadgen.run.messages import RunAssignment, WorkerHello, WorkerReady
from loadgen.version import VERSION

STOPPED_ANSWERING = "it stopped answering: killed, or cut off"


class Transport(Protocol):
    """The master's connection to its workers."""

    def send(self, kind: str, message: msgspec.Struct | None, worker: str) -> None:
        """Send a message of a kind to a worker."""

    def workers(self) -> dict[str, bool]:
        """Return the workers that have joined and not quit, and whether each answers."""

    def ended_forks(self) -> dict[int, str]:
        """Return the workers that are our own child processes and have ended: by process id, how."""

    def forget_users(self, worker: str) -> None:
        """Do not wait for the users of a worker that is gone."""


@dataclass(eq=False)
class WorkerHandle:
    """One worker."""

    client_id: str
    hello: WorkerHello | None = None
    offset: ClockOffset | None = None
    exchanges: int = 0
    """Its answers about its clock."""
    facts: WorkerFacts | None = None
    """Its place in the run; None while it has none."""
    ready: WorkerReady | None = None
    failed: str | None = None
    """Why it cannot go on with its share."""
    sequence: int = 0
    """Of its last report."""
    is_ended: bool = False
    """Whether its last report is here."""

    @property
    def name(self) -> str:
        """How messages to the user name it."""
        return self.client_id if self.hello is None else f"{self.hello.host}, process {self.hello.pid}"

    def assign(self, number: int) -> WorkerFacts:
        """Give it a place in a run; it must have said hello and told its time."""
        assert self.hello is not None
        assert self.offset is not None
        self.ready, self.failed, self.sequence, self.is_ended = None, None, 0, False
        self.facts = WorkerFacts(
            number=number,
            name=self.client_id,
            host=self.hello.host,
            pid=self.hello.pid,
            clock_offset_ns=self.offset.monotonic_ns,
            clock_uncertainty_ns=self.offset.uncertainty_ns,
            wall_offset_ms=self.offset.wall_ms,
        )
        return self.facts

    def late_facts(self, number: int) -> WorkerFacts:
        """Return the facts of a worker that joined during the run."""
        return WorkerFacts(
            number=number,
            name=self.client_id,
            host=self.client_id if self.hello is None else self.hello.host,
            pid=None if self.hello is None else self.hello.pid,
            started_requests=0,
            lost="it came while the run went on, and Locust gave it users of the others",
        )

    def check(self, *, forked: bool, with_key: bool) -> None:
        """Raise WorkerError unless it can take part in a run.

        ``forked``: it must be our own child process (``--processes``); ``with_key``: it must have an API key.
        """
        hello, offset = self.hello, self.offset
        if hello is None or offset is None:
            raise WorkerError(
                f"worker {self.name} does not answer: it runs another version of loadgen, or none. "
                f"Start it with the same locustfile and loadgen {VERSION}."
            )
        if hello.version != VERSION:
            raise WorkerError(
                f"worker {self.name} has loadgen {hello.version}, the master has {VERSION}: install the same on both."
            )
        if forked and hello.parent != os.getpid():
            raise WorkerError(
                f"worker {self.name} is not one of our processes: another master's, on the same --master-bind-port? "
                "Give each run a port of its own, or use --master with --worker."
            )
        if with_key and not hello.has_key:
            raise WorkerError(f"worker {self.name} has no API key: set OPENAI_API_KEY there too; it is not sent to it.")
        if is_far_off(offset):
            raise WorkerError(
                f"the wall clock of worker {self.name} is {offset.wall_ms / 1000:+.1f} s off the master's, more than "
                f"{WALL_LIMIT_S:g} s: set its clock (chrony, ntpd)."
            )


def with_shard(assignment: RunAssignment, number: int, shards: int) -> RunAssignment:
    """Return the assignment of worker ``number`` (1, 2, ...) of ``shards``."""
    return msgspec.structs.replace(assignment, number=number, shard=number - 1, shards=shards)

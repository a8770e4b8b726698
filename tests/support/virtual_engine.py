"""An engine, its clients and what watches them, made of tasks on virtual time."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit

from loadgen.clock import MS, SECOND, Ns
from loadgen.measure.facts import EngineCounters, Instrument
from loadgen.measure.histogram import Histogram, Wire
from loadgen.measure.process_report import ProcessReport
from loadgen.protocol.completion import Completion, Exchange
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.request import Request
from loadgen.run.exporting import Exporter
from support.virtual_time import Event, Process

TOKENS = 8


@dataclass
class Engine:
    """An engine with places for requests; the others queue."""

    service_s: float = 1.0
    """Mean time of service; each is up to a fifth shorter or longer."""
    places: int = 4
    free: int = field(init=False)
    queue: deque[Event] = field(default_factory=deque)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    hangs: bool = False
    """Whether no answer comes any more."""
    refuses: bool = False
    """Whether connections are refused."""

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

    def sample(self) -> None:
        """Do nothing."""

    def energy(self) -> list[Any]:
        """Return nothing."""
        return []

    def loads(self) -> list[Any]:
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

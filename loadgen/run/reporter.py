"""Makes the reports of one process: what has ended since the last one, and how the process is."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from loadgen.measure.facts import Instrument
from loadgen.measure.gaps import all_gaps_ms
from loadgen.measure.histogram import Histogram, Wire
from loadgen.measure.process_report import ProcessReport
from loadgen.metrics import EXPORTED, ITL
from loadgen.record import Phase, RequestRecord
from loadgen.run.recorder import Recorder
from loadgen.run.request_source import RequestSource
from loadgen.run.user_code import UserCodeCounter


class HealthMonitor(Protocol):
    """Measures how well this process measures: lateness of its event loop, garbage collection, CPU."""

    def start(self) -> None:
        """Start to measure."""

    def stop(self) -> Instrument:
        """Stop, and return the figures; they are absent if it was not started, or has been stopped before."""

    def recent(self) -> Wire:
        """Return the lateness of the event loop since the last call, ms."""


class Reporter:
    """Makes the reports of one process."""

    def __init__(
        self,
        run_id: str,
        worker: int,
        source: RequestSource,
        recorder: Recorder,
        user_code: UserCodeCounter,
        health: HealthMonitor,
    ) -> None:
        self._run_id, self._worker = run_id, worker
        self._source, self._recorder = source, recorder
        self._user_code, self._health = user_code, health
        self._sequence = 0
        self._cpu = (time.process_time(), time.monotonic())

    def report(self, users: int | None, *, last: bool = False) -> ProcessReport:
        """Return what has ended since the last report. After the last one nothing may be recorded any more."""
        records, recorder = self._recorder.take_unreported(), self._recorder
        self._sequence += 1
        return ProcessReport(
            run_id=self._run_id,
            worker=self._worker,
            sequence=self._sequence,
            records=records,
            histograms={name: h.to_wire() for name, h in histograms(records).items()},
            started=self._source.started,
            in_flight=len(recorder.in_flight),
            settled_ns=recorder.settled_ns,
            cpu_share=self._cpu_share(),
            loop_lag=self._health.recent(),
            users=users,
            done=self._source.is_exhausted,
            user_code=self._user_code.counted,
            instrument=replace(self._health.stop(), worker=self._worker) if last else None,
        )

    def _cpu_share(self) -> float | None:
        used, at = time.process_time(), time.monotonic()
        (used_before, at_before), self._cpu = self._cpu, (used, at)
        return (used - used_before) / (at - at_before) if at > at_before else None


def histograms(records: Sequence[RequestRecord]) -> Mapping[str, Histogram]:
    """Return the distributions of the measured requests' latencies, ms."""
    measured = [r for r in records if r.phase is Phase.MEASURE]
    found = {metric.key: Histogram() for metric in EXPORTED}
    for metric in EXPORTED:
        if metric.of is not None:
            found[metric.key].add([value for r in measured if (value := metric.of(r)) is not None])
    found[ITL.key].add(all_gaps_ms(measured))
    return found

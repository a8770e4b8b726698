"""One run: hands out its jobs, keeps its records, and ends in a summary."""

import gc
import os
import platform
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import gevent
from gevent.event import Event

from loadgen.harness.lag import LoopLag
from loadgen.harness.prepare import Prepared
from loadgen.record import Phase, RequestRecord
from loadgen.results.manifest import Ended, Instrument, Manifest
from loadgen.results.report import write_reports
from loadgen.results.store import RunFolder
from loadgen.results.summary import Summary
from loadgen.scenario import Scenario
from loadgen.version import VERSION
from loadgen.wire.dialect import Ask
from loadgen.wire.job import Job
from loadgen.workload.plan import Assignment

Reason = Literal["completed", "run-time", "interrupted"]

_YOUNG_ONLY = (10_000, 100, 1_000_000)
"""Thresholds of the three generations while a run goes on."""

_TIMER_AHEAD_S = 0.5
"""Locust's timer of --run-time starts before we do, while the run is still being set up."""


@dataclass(frozen=True, slots=True)
class Load:
    """How many users, and how long; times in seconds."""

    users: int
    run_time: float | None
    spread_s: float
    """Over which the users' first measured requests are spread."""


class Run:
    """One run of a prepared scenario by a number of users."""

    def __init__(
        self,
        prepared: Prepared,
        load: Load,
        *,
        on_warm: Callable[[], None],
        on_record: Callable[[RequestRecord], None],
        on_complete: Callable[[], None],
    ) -> None:
        """Create the results folder; raises UsageError if it cannot be written."""
        from loadgen.live.progress import Progress  # rich draws random numbers when it is imported

        self.prepared = prepared
        self._on_warm, self._on_record, self._on_complete = on_warm, on_record, on_complete
        self._planned = _planned(prepared.scenario, load.run_time)
        self._run_time = load.run_time
        self._eager_share = prepared.scenario.eager_share(load.users)
        self._warmup = deque(Assignment(Phase.WARMUP, p) for p in prepared.plan.warmup)
        self._warmup_left = len(self._warmup)
        self._warm = Event()
        self._warmed_at = 0.0
        self._between_starts_s = load.spread_s / load.users
        self._enrolled = 0
        self._begun: set[int] = set()
        self._measured = prepared.plan.measured()
        self._handed_out = 0
        self._kept = 0
        self._started = 0
        self._stopping = False
        self._gc_thresholds = gc.get_threshold()
        self._began = time.monotonic()
        self._ran_for = 0.0
        self._records: list[RequestRecord] = []
        self._lag = LoopLag()
        self._instrument: Instrument | None = None
        self.manifest = _manifest(prepared, load, planned=self._planned)
        self.folder = RunFolder(Path(prepared.scenario.results), self.manifest)
        self.progress = Progress(self._planned, load.run_time, warmup=len(self._warmup))

    @property
    def complete(self) -> bool:
        """Whether all measured requests that were planned have been made."""
        return self._planned is not None and self._kept >= self._planned

    def begin(self) -> None:
        """Start the clock. The garbage collector leaves alone what is there by now, and looks at young objects only.

        A collection of everything stops all users for tens of milliseconds; requests leave no cycles behind.
        """
        gc.collect()
        gc.freeze()
        self._gc_thresholds = gc.get_threshold()
        gc.set_threshold(*_YOUNG_ONLY)
        self.progress.start()
        if not self._warmup_left:
            self._warmed()

    def enrol(self) -> int:
        """Return a user's number: 0, 1, ..."""
        self._enrolled += 1
        return self._enrolled - 1

    def next_job(self, user: int) -> Job | None:
        """Return the next request for a user to make, None when there is none.

        Measured requests wait for the warm-up to end, and a user's first one for its turn: starts are spread.
        """
        if self._is_stopping():
            return None
        if self._warmup:
            return self._job(self._warmup.popleft())
        self._warm.wait()
        if user not in self._begun:
            self._begun.add(user)
            gevent.sleep(max(0.0, self._warmed_at + user * self._between_starts_s - time.monotonic()))
        if self._is_stopping() or self._handed_out == self._planned:
            return None
        self._handed_out += 1
        return self._job(next(self._measured))

    def keep(self, record: RequestRecord) -> None:
        """Take the record of a request that has ended: to disk first, then to whoever looks on."""
        try:
            self.folder.append(record)
            self._records.append(record)
            self._on_record(record)
            self.progress.add(record)
        finally:  # whatever failed, others wait for this count
            self._count(record)

    def _count(self, record: RequestRecord) -> None:
        if record.phase is Phase.WARMUP:
            self._warmup_left -= 1
            if self._warmup_left == 0:
                self._warmed()
            return
        self._kept += 1
        if self.complete:
            self._instrument = self._lag.stop()  # what Locust does at the end is no part of the measurement
            self._on_complete()

    def stop(self) -> None:
        """Hand out no more requests; those in flight go on."""
        if not self._stopping:
            self._ran_for = time.monotonic() - self._began
        self._stopping = True
        self._warm.set()

    def users_changed(self) -> None:
        """Note that the number of users was changed during the run."""
        self.manifest.users_changed = True

    def finish(self) -> Summary:
        """Complete the manifest, write the reports and return the summary."""
        self.stop()
        self.progress.stop()
        self.manifest.instrument = self._instrument or self._lag.stop()
        self.manifest.ended = Ended(reason=self._reason(), at=_wall_time(), started_requests=self._started)
        self.folder.close()
        self.folder.write_manifest(self.manifest)
        gc.set_threshold(*self._gc_thresholds)
        gc.unfreeze()
        return write_reports(self.folder.path, self.manifest, self._records)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _reason(self) -> Reason:
        if self.complete:
            return "completed"
        elapsed = self._ran_for + _TIMER_AHEAD_S
        return "run-time" if self._run_time is not None and elapsed >= self._run_time else "interrupted"

    def _warmed(self) -> None:
        self._on_warm()
        self._lag.start()
        self._warmed_at = time.monotonic()
        self._warm.set()

    def _job(self, assignment: Assignment) -> Job:
        self._started += 1
        scenario = self.prepared.scenario
        ask = Ask(
            assignment.prompt.text, self.prepared.model, scenario.max_tokens, scenario.temperature, scenario.stream
        )
        request_id = f"{self.manifest.run_id}-{self._started:06d}"
        share = self._eager_share
        # Every n-th stream, by number and not by moment: sampling that followed the load would favour quiet moments.
        lazy = ask.stream and int(self._started * share) == int((self._started - 1) * share)
        return Job(request_id, ask, assignment.phase, assignment.prompt.row, assignment.round, lazy)


def _planned(scenario: Scenario, run_time: float | None) -> int | None:
    """Return how many requests are to be measured: --requests, else the sample once, else as many as time allows."""
    if scenario.requests is not None:
        return scenario.requests
    return scenario.sample if run_time is None else None


def _manifest(prepared: Prepared, load: Load, *, planned: int | None) -> Manifest:
    kind: Literal["speed", "throughput"] = "speed" if load.users == 1 else "throughput"
    scenario = prepared.scenario
    return Manifest(
        run_id=_run_id(kind, prepared.model),
        kind=kind,
        engine=prepared.engine,
        model=prepared.model,
        host=prepared.settings.target.url,
        simulated=prepared.simulated,
        embedded=prepared.embedded,
        scenario=asdict(scenario),
        users=load.users,
        run_time_s=load.run_time,
        planned_requests=planned,
        dataset=prepared.plan.describe(),
        server=prepared.server,
        versions={"loadgen": VERSION, "python": platform.python_version()}
        | {name: version(name) for name in ("locust", "gevent", "httptools", "msgspec", "openai")},
        environment={"platform": platform.platform(), "cpus": os.cpu_count(), "cpu": _cpu()},
        started_at=_wall_time(),
        anchor={"realtime_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()},
    )


def _run_id(kind: str, model: str) -> str:
    slug = re.sub(r"[^a-z0-9.]+", "-", model.lower()).strip("-.")[-40:] or "model"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-{slug}-{secrets.token_hex(2)}"


def _wall_time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _cpu() -> str | None:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None

"""One run: hands out its jobs, keeps its records, and ends in a summary."""

import gc
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

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.harness.health import Health
from loadgen.harness.prepare import Prepared
from loadgen.measure.metrics import tpot_ms
from loadgen.record import Phase, RequestRecord
from loadgen.results.calibration import envelope_here
from loadgen.results.machine import this_machine
from loadgen.results.manifest import Ended, Instrument, Manifest
from loadgen.results.report import report
from loadgen.results.store import RunFolder
from loadgen.results.summary import Summary
from loadgen.scenario import Scenario
from loadgen.wire.dialect import Ask
from loadgen.wire.job import Job
from loadgen.workload.plan import Assignment

Reason = Literal["completed", "run-time", "interrupted"]

_YOUNG_ONLY = (2_000, 1_000, 1_000_000)
"""Thresholds of the three generations while a run goes on: collections so small that none stops the users for a
millisecond."""

OPEN_AHEAD_MS = 50
"""Connections for requests with a time of their own are opened so long before it, lest connecting delay them."""

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
        self._users = load.users
        self._eager_share = 1.0
        self._warmup = deque(Assignment(Phase.WARMUP, p) for p in prepared.plan.warmup)
        self._warmup_left = len(self._warmup)
        self._warm = Event()
        self._over = Event()
        self._warmed_at = Ns(0)
        self._between_starts = load.spread_s * SECOND / load.users
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
        self._warmup_rates: list[float] = []
        self._health = Health()
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
        not_before = None
        if user not in self._begun:
            self._begun.add(user)
            not_before = Ns(self._warmed_at + OPEN_AHEAD_MS * MS + int(user * self._between_starts))
            gevent.sleep(max(0, not_before - OPEN_AHEAD_MS * MS - now()) / SECOND)
        if self._handed_out == self._planned:
            self._over.wait()  # Locust stumbles over users that end while it stops them
        if self._is_stopping():
            return None
        self._handed_out += 1
        return self._job(next(self._measured), not_before)

    def keep(self, record: RequestRecord) -> None:
        """Take the record of a request that has ended: to disk first, then to whoever looks on."""
        try:
            self.folder.append(record)
            self._on_record(record)
            self.progress.add(record)
        finally:  # whatever failed, others wait for this count
            self._count(record)

    def _count(self, record: RequestRecord) -> None:
        if record.phase is Phase.WARMUP:
            self._warmup_left -= 1
            if (tpot := tpot_ms(record)) is not None:
                self._warmup_rates.append(1000 / tpot)
            if self._warmup_left == 0:
                self._warmed()
            return
        self._kept += 1
        if self.complete:
            self._instrument = self._health.stop()  # what Locust does at the end is no part of the measurement
            self._on_complete()

    def stop(self) -> None:
        """Hand out no more requests; those in flight go on."""
        if not self._stopping:
            self._ran_for = time.monotonic() - self._began
        self._stopping = True
        self._warm.set()
        self._over.set()

    def users_changed(self) -> None:
        """Note that the number of users was changed during the run."""
        self.manifest.users_changed = True

    def finish(self) -> Summary:
        """Complete the manifest, write the reports and return the summary."""
        self.stop()
        self.progress.stop()
        self.manifest.instruments = [self._instrument or self._health.stop()]
        self.manifest.ended = Ended(reason=self._reason(), at=_wall_time(), started_requests=self._started)
        self.folder.close()
        self.folder.write_manifest(self.manifest)
        gc.set_threshold(*self._gc_thresholds)
        gc.unfreeze()
        return report(self.folder.path)

    def _is_stopping(self) -> bool:
        return self._stopping

    def _reason(self) -> Reason:
        if self.complete:
            return "completed"
        elapsed = self._ran_for + _TIMER_AHEAD_S
        return "run-time" if self._run_time is not None and elapsed >= self._run_time else "interrupted"

    def _warmed(self) -> None:
        self._on_warm()
        rate = max(self._warmup_rates, default=None)
        self._eager_share = self.prepared.scenario.eager_share(self._users, rate)
        self.manifest.itl_share = self._eager_share
        self._health.start()
        self._warmed_at = now()
        self._warm.set()

    def _job(self, assignment: Assignment, not_before: Ns | None = None) -> Job:
        self._started += 1
        scenario = self.prepared.scenario
        ask = Ask(
            assignment.prompt.text, self.prepared.model, scenario.max_tokens, scenario.temperature, scenario.stream
        )
        request_id = f"{self.manifest.run_id}-{self._started:06d}"
        share, n = self._eager_share, self._handed_out
        # Every n-th stream, by number and not by moment: sampling that followed the load would favour quiet moments.
        lazy = ask.stream and assignment.phase is Phase.MEASURE and int(n * share) == int((n - 1) * share)
        return Job(
            request_id, ask, assignment.phase, assignment.prompt.row, assignment.round, not_before=not_before, lazy=lazy
        )


def _planned(scenario: Scenario, run_time: float | None) -> int | None:
    """Return how many requests are to be measured: --requests, else the sample once, else as many as time allows."""
    if scenario.requests is not None:
        return scenario.requests
    return scenario.sample if run_time is None else None


def _manifest(prepared: Prepared, load: Load, *, planned: int | None) -> Manifest:
    kind: Literal["speed", "throughput"] = "speed" if load.users == 1 else "throughput"
    scenario = prepared.scenario
    machine = this_machine()
    calibration, no_calibration = envelope_here()
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
        versions={"loadgen": machine.loadgen, "python": machine.python}
        | {name: version(name) for name in ("locust", "gevent", "httptools", "msgspec", "openai")},
        environment={"platform": machine.platform, "cpus": machine.cpus, "cpu": machine.cpu},
        started_at=_wall_time(),
        anchor={"realtime_ns": time.time_ns(), "monotonic_ns": time.monotonic_ns()},
        calibration=calibration,
        no_calibration=no_calibration,
    )


def _run_id(kind: str, model: str) -> str:
    slug = re.sub(r"[^a-z0-9.]+", "-", model.lower()).strip("-.")[-40:] or "model"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{kind}-{slug}-{secrets.token_hex(2)}"


def _wall_time() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

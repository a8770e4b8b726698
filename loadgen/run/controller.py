"""One run: warms up, lets the load model play, drains, and has the summary made.

The controller is the only one that changes the run's state, by :meth:`RunController._transition`. :meth:`start` begins
the warm-up in a task of its own, which goes on to the load. Whatever ends the load, :meth:`stop` drains: whoever calls
it first does the work, the others wait. :meth:`finish` then makes the result. An interruption at any point thus goes
the same way, and loses nothing; ``docs/architecture.md`` lists what each one leaves.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loadgen.clock import SECOND, Ns
from loadgen.live.live import LiveStats
from loadgen.measure.energy import EnergySample
from loadgen.measure.facts import EngineCounters, WorkerFacts
from loadgen.results.manifest import Manifest
from loadgen.results.store import RunFolder
from loadgen.run.load.model import TICK_S, LoadAborted, LoadModel, Watcher
from loadgen.run.messages import StartStep
from loadgen.run.pool import WorkerPool, this_process
from loadgen.run.reports import Reports, RunObserver
from loadgen.run.result import RunResult, conclude
from loadgen.run.runtime import Runtime, Task
from loadgen.run.share import RunShare, ShareHost
from loadgen.run.state import EndReason, RunState, can_follow
from loadgen.run.warm_up import WarmUp, WarmUpResult
from loadgen.scenario import Scenario
from loadgen.workload.prompts import Prompt

logger = logging.getLogger(__name__)

SETTLE_READS = 4
"""The engine's counters are read again up to this often while they still show requests after ours have ended."""

_TIMER_AHEAD_S = 0.5
"""Locust's timer of ``--run-time`` starts this long before the run, at most, as the run is set up meanwhile."""


class RunHost(ShareHost, Protocol):
    """What a run needs of the process that conducts it."""

    def set_users(self, users: int) -> None:
        """Have that many users, over all processes; returns when they are there."""

    def measuring_begins(self) -> None:
        """Act on the end of the warm-up."""

    def end_run(self) -> None:
        """End the run, which is over by itself; returns at once."""


class EngineMonitor(Protocol):
    """What the engine itself measures."""

    def read_counters(self) -> EngineCounters | None:
        """Read its counters; None if it has none."""

    def sample_energy(self) -> None:
        """Ask its GPUs for what they used, if it is time; returns at once."""

    def energy(self) -> Sequence[EnergySample]:
        """Take a last sample, and return all; empty if nothing is known of its GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What a run is made from."""

    scenario: Scenario
    manifest: Manifest
    folder: RunFolder
    load: LoadModel
    warm_up: Sequence[Prompt]
    stop_timeout_s: float
    """Requests in flight at the end have this long to end by themselves."""
    began_ns: Ns
    """When Locust began the run, and its timer of ``--run-time``."""


class RunController:
    """Conducts one run. A load model sees it as its :class:`~loadgen.run.load.model.RunningLoad`."""

    def __init__(
        self, setup: RunSetup, share: RunShare, host: RunHost, monitor: EngineMonitor, runtime: Runtime
    ) -> None:
        """Prepare a run; ``share`` is this process's: all of the run, or its warm-up where workers do the rest."""
        self.state = RunState.PREPARED
        self.end_reason: EndReason | None = None
        """Why the load ended; None until it has."""
        self.manifest = setup.manifest
        self.folder = setup.folder
        self.live = LiveStats(setup.manifest.planned_requests, len(setup.warm_up), setup.manifest.run_time_s)
        self.warmed_up = WarmUpResult()
        self.lost: Sequence[str] = ()
        """A sentence about each worker that is gone."""
        self._setup, self._share, self._host = setup, share, host
        self._monitor, self._runtime = monitor, runtime
        self._pool: WorkerPool | None = None
        self._myself = this_process()
        self._player: Task | None = None
        self._woken = runtime.event()
        self.reports = Reports(setup.folder, self.live, self._woken)
        self._drained = runtime.event()
        self._counters: EngineCounters | None = None
        self._is_complete = False
        self._aborted: str | None = None
        """Why this process ends the load early."""
        self._why: str | None = None
        """Why the load ended early."""
        self._bug: str | None = None
        self._collects = True

    # The life of the run.

    def start(self, pool: WorkerPool, observers: Sequence[RunObserver] = ()) -> None:
        """Begin the warm-up, and go on to the load; returns at once."""
        self._pool = pool
        self.reports.start(pool.facts, observers)
        self.manifest.workers = [self._myself, *(facts for facts in pool.facts if facts.number)]
        self.save()
        self._transition(RunState.WARMING_UP)
        self._player = self._runtime.spawn(self._play)

    def abort(self, why: str) -> None:
        """End the load early."""
        self._aborted = self._aborted or why
        self._woken.set()

    def fail(self, what: str) -> None:
        """End the load because code of ours failed; ``what`` says where."""
        self._bug = self._bug or what
        self.abort(f"an error in loadgen ({what})")

    def stop(self) -> None:
        """End the load and drain. Returns when nothing is in flight and all that was recorded is here."""
        if self.is_stopping:
            self._drained.wait()
            return
        self.end_reason = self._reason()
        self._transition(RunState.DRAINING)
        try:
            if self._player is not None:
                self._player.cancel()
            self._drain()
            if self._counters is not None and (after := self._counters_afterwards()) is not None:
                self.manifest.counters = self._counters, after
        finally:
            self._drained.set()

    def finish(self) -> RunResult:
        """Complete the manifest, merge the records, write the reports and return the result."""
        self.stop()
        self.manifest.workers += [] if self._pool is None else self._pool.late
        self._myself.started_requests = self._share.source.started
        self.manifest.instruments = self.reports.instruments()
        self.manifest.energy = list(self._monitor.energy())
        self._share.close()
        self.reports.close()
        self._transition(RunState.ENDED)
        assert self.end_reason is not None
        return conclude(self.folder, self.manifest, self.end_reason, why=self._why or self._aborted, bug=self._bug)

    @property
    def is_stopping(self) -> bool:
        """Whether the load has ended."""
        return self.state in {RunState.DRAINING, RunState.ENDED}

    def wake(self) -> None:
        """End the present wait of the load model: something has been completed."""
        self._woken.set()

    # What a load model works with.

    @property
    def pool(self) -> WorkerPool:
        """The processes that make the requests."""
        assert self._pool is not None
        return self._pool

    @property
    def processes(self) -> int:
        """Number of processes that make requests."""
        return len(self.pool.facts)

    @property
    def all_done(self) -> bool:
        """Whether all processes have made what was planned."""
        return self.reports.all_done

    @property
    def settled_ns(self) -> int:
        """Every request sent before this time (on our clock) has ended, and its record is here."""
        return self.reports.settled_ns

    def now(self) -> Ns:
        """Return the time, ns."""
        return self._runtime.now()

    def start_step(self, *, step: int | None, users: int, spread_s: float, epoch: Ns | None = None) -> None:
        """Let requests be sent, as part of a step with about ``users`` requests at a time."""
        share = self._setup.scenario.eager_share(users, self.warmed_up.stream_rate)
        self.manifest.itl_share = share
        horizon = self.manifest.run_time_s
        self.pool.start_step(
            StartStep(step=step, eager_share=share, spread_s=spread_s, epoch_ns=epoch, horizon_s=horizon)
        )

    def set_users(self, users: int) -> None:
        """Have that many users, over all processes; returns when they are there."""
        self._host.set_users(users)

    def follow(self, watcher: Watcher) -> None:
        """Pass requests that end to a watcher."""
        self.reports.follow(watcher)

    def wait(self, seconds: float = TICK_S) -> None:
        """Wait until something is done, at most that long; raises LoadAborted if the load cannot go on."""
        if self._woken.wait(seconds):
            self._woken.clear()
        self.pool.collect()
        self._tick()
        self._check()

    def save(self) -> None:
        """Write the manifest."""
        self.folder.write_manifest(self.manifest)

    # What its process tells it, and shows of it.

    def users_changed(self) -> None:
        """Note that somebody changed the number of users during the run."""
        self.manifest.users_changed = True

    def worker_facts(self) -> Sequence[WorkerFacts]:
        """Return the facts of the processes that make requests; empty until the run has started."""
        return [] if self._pool is None else self._pool.facts

    def _transition(self, state: RunState) -> None:
        """Go to the next state; displays read it from the live figures."""
        if not can_follow(self.state, state):
            raise RuntimeError(f"a run that is {self.state} cannot become {state}")
        self.state = state
        self.live.state = state

    def _play(self) -> None:
        """Warm up, then apply the load. Nothing is raised: the run ends with what was recorded."""
        try:
            self._counters = self._monitor.read_counters()
            self._warm_up()
            self._host.measuring_begins()
            self._transition(RunState.MEASURING)
            self._setup.load.play(self)
            self._is_complete = True
        except LoadAborted as aborted:
            if not self.is_stopping:
                self._why = str(aborted)
            logger.warning("The load ends early: %s", aborted)
        except Exception as error:  # noqa: BLE001 reported once, there
            self._host.report_bug(error)
            self._why = self._aborted
        finally:  # however it ended: nobody may wait for a task that is over
            if not self.is_stopping:
                self._host.end_run()

    def _warm_up(self) -> None:
        warm_up = WarmUp(self._setup.warm_up, self._share, self._host, self._runtime)
        warm_up.start(self._setup.load.warm_up_users)
        while not warm_up.wait(TICK_S):
            self.live.warmed = len(warm_up.records)
            self._report_warm_up()
            self._tick()
            self._check()
        self.live.warmed = len(warm_up.records)
        self._report_warm_up(last=True)
        self.warmed_up = warm_up.result()

    def _report_warm_up(self, *, last: bool = False) -> None:
        """Report what this process does; its share ends with the warm-up if workers make the requests."""
        if any(facts.number == self._myself.number for facts in self.pool.facts):
            self.pool.collect()
        else:
            self.reports.show(self._share.report(last=last))

    def _check(self) -> None:
        """Raise LoadAborted if the load cannot go on."""
        if self.is_stopping:
            raise LoadAborted("the run is being stopped")
        if self._aborted is not None:
            raise LoadAborted(self._aborted)
        self.lost = self.pool.lost()
        if self.lost:
            raise LoadAborted("; ".join(self.lost))

    def _tick(self) -> None:
        self.live.tick()
        self._monitor.sample_energy()
        self.reports.tick()

    def _drain(self) -> None:
        """Wait for requests in flight and for the last reports; go on showing how things are meanwhile."""
        show = self._runtime.spawn(self._show_drain)
        timeout = self._setup.stop_timeout_s
        try:
            self._share.drain(timeout)
        finally:
            self._collects = False  # the pool takes this process's last report
            try:
                if self._pool is not None:
                    self._pool.finish(timeout)
            finally:
                show.cancel()

    def _show_drain(self) -> None:
        try:
            while True:
                self._runtime.sleep(TICK_S)
                if self._pool is not None and self._collects:
                    self._pool.collect()
                self._tick()
        except Exception as error:  # noqa: BLE001 reported once, there
            self._host.report_bug(error)

    def _counters_afterwards(self) -> EngineCounters | None:
        """Read the engine's counters once our last request has left it, which engines show a moment late."""
        after = self._monitor.read_counters()
        for _ in range(SETTLE_READS):
            if after is None or not (after.running or after.waiting):
                break
            self._runtime.sleep(TICK_S)
            after = self._monitor.read_counters()
        return after

    def _reason(self) -> EndReason:
        """Return why the load ends now."""
        if self._is_complete:
            return "completed"
        limit, ran_for_s = self.manifest.run_time_s, (self._runtime.now() - self._setup.began_ns) / SECOND
        is_over = limit is not None and ran_for_s + _TIMER_AHEAD_S >= limit
        return "run-time" if is_over and self._why is None and self._aborted is None else "interrupted"

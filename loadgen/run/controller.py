"""One run: warms up, lets the load model play, drains, and has the summary made.

The controller is the only one that changes the run's state, by :meth:`RunController._transition`. :meth:`start` begins
the warm-up in a separate task, which goes on to the load. Whatever ends the load, :meth:`stop` drains: whoever calls
it first does the work, the others wait. :meth:`finish` then makes the result. An interruption at any point thus goes
the same way, and loses nothing; ``docs/architecture.md`` lists what each one leaves.
"""

import logging
from collections.abc import Sequence

from loadgen.clock import SECOND
from loadgen.live.live import LiveStats
from loadgen.measure.facts import EngineCounters, WorkerFacts
from loadgen.run.driver import LoadDriver
from loadgen.run.host import EngineMonitor, RunHost, RunSetup
from loadgen.run.load.model import TICK_S, WARM_UP_REQUESTS, LoadAborted
from loadgen.run.pool import WorkerPool, this_process
from loadgen.run.reports import Reports, RunObserver
from loadgen.run.result import RunResult, conclude
from loadgen.run.runtime import Runtime, Task
from loadgen.run.share import RunShare
from loadgen.run.state import EndReason, RunState, can_follow
from loadgen.run.warm_up import SentWarmUp, WarmUp

logger = logging.getLogger(__name__)

SETTLE_READS = 4
"""The engine's counters are read again up to this often while they still show requests after ours have ended."""

_TIMER_AHEAD_S = 0.5
"""Locust's timer of ``--run-time`` starts this long before the run, at most, as the run is set up meanwhile."""


class RunController:
    """Conducts one run."""

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
        self.reports = Reports(setup.folder, self.live, runtime)
        self.load = LoadDriver(setup, self.reports, host, monitor, runtime)
        """What the load model works with."""
        self._setup, self._share, self._host = setup, share, host
        self._monitor, self._runtime = monitor, runtime
        self._pool: WorkerPool | None = None
        self._myself = this_process()
        self._player: Task | None = None
        self._drained = runtime.event()
        self._counters: EngineCounters | None = None
        self._is_complete = self._has_sigint = False
        self._collects = True

    # The life of the run.

    def start(self, pool: WorkerPool, observers: Sequence[RunObserver] = ()) -> None:
        """Begin the warm-up, and go on to the load; returns at once."""
        self._pool = pool
        self.reports.start(pool.facts, observers)
        self.manifest.workers = [self._myself, *(facts for facts in pool.facts if facts.number)]
        self.load.start(pool)
        self.load.save()
        self._transition(RunState.WARMING_UP)
        self._player = self._runtime.spawn(self._play)

    def abort(self, why: str) -> None:
        """End the load early."""
        self.load.abort(why)

    def stop(self) -> None:
        """End the load and drain. Returns when nothing is in flight and all that was recorded is here."""
        if self.is_stopping:
            self._drained.wait()
            return
        self.end_reason = self._reason()
        self._transition(RunState.DRAINING)
        try:
            self.load.is_over = True
            if self._player is not None:
                self._player.cancel()
                self._player.wait()
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
        self.manifest.user_code = self.reports.user_code()
        self.manifest.energy = list(self._monitor.energy())
        self.manifest.engine_load = list(self._monitor.loads())
        self._share.close()
        self.reports.close()
        self._setup.load.drained(self.load)
        self._transition(RunState.ENDED)
        assert self.end_reason is not None
        return conclude(self.folder, self.manifest, self.end_reason, why=self.load.aborted, sigint=self._has_sigint)

    @property
    def is_stopping(self) -> bool:
        """Whether the load has ended."""
        return self.state in {RunState.DRAINING, RunState.ENDED}

    # What its process tells it, and shows of it.

    def note_sigint(self) -> None:
        """Note that SIGINT, which Ctrl-C sends, is ending the run."""
        self._has_sigint = not self.is_stopping

    def load_completed(self) -> None:
        """Note that the load has come to its end by itself, though its load model cannot know it."""
        self._is_complete = True

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
            self._setup.load.play(self.load)
            self._is_complete = True
        except LoadAborted as aborted:
            if not self.is_stopping:
                self.load.abort(str(aborted))
            logger.warning("The load ends early: %s", aborted)
        except Exception as error:  # noqa: BLE001 reported once, there
            self._host.report_bug(error)
        finally:  # however it ended: nobody may wait for a task that is over
            if not self.is_stopping:
                self._host.end_run()

    def _warm_up(self) -> None:
        warm_up = self._let_users_warm_up() if self._setup.load.users_warm_up else self._send_warm_up()
        self.live.warmed = len(warm_up.records)
        self.load.warmed_up = warm_up.result()
        if (failure := warm_up.failure()) is not None:
            raise LoadAborted(failure)
        self.load.check()  # it may have been stopped at this very moment

    def _let_users_warm_up(self) -> WarmUp:
        assert self._pool is not None
        warm_up = WarmUp(len(self._setup.warm_up))
        self.load.follow(warm_up)
        self._pool.start_warm_up()
        while not warm_up.is_over:
            self.load.wait()
            self.live.warmed = len(warm_up.records)
        return warm_up

    def _send_warm_up(self) -> WarmUp:
        warm_up = SentWarmUp(self._setup.warm_up, self._share, self._host, self._runtime)
        warm_up.start(WARM_UP_REQUESTS)
        while not warm_up.wait(TICK_S):
            self.live.warmed = len(warm_up.records)
            self._report_warm_up()
            self.load.tick()
            self.load.check()
        self._report_warm_up(last=True)
        return warm_up

    def _report_warm_up(self, *, last: bool = False) -> None:
        """Report the warm-up that this process sends; its share ends with it if workers make the requests."""
        assert self._pool is not None
        if any(facts.number == self._myself.number for facts in self._pool.facts):
            self._pool.collect()
        else:
            self.reports.show(self._share.report(last=last))

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
                show.wait()

    def _show_drain(self) -> None:
        try:
            while True:
                self._runtime.sleep(TICK_S)
                if self._pool is not None and self._collects:
                    self._pool.collect()
                self.load.tick()
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
        return "run-time" if is_over and self.load.aborted is None else "interrupted"

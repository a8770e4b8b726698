"""What a load model works with while it plays: steps, users, what has been done so far, and waiting."""

from collections.abc import Sequence

from loadgen.clock import SECOND, Ns
from loadgen.run.host import EngineMonitor, RunHost, RunSetup
from loadgen.run.load.model import TICK_S, ConstantUsers, LoadAborted, Watcher
from loadgen.run.messages import StartStep
from loadgen.run.pool import WorkerPool
from loadgen.run.reports import Reports
from loadgen.run.runtime import Runtime
from loadgen.run.warm_up import WarmUpResult

USERS_REPORTED_S = 3.0
"""After this time all processes have reported the users that Locust has started in them."""


class LoadDriver:
    """Implements :class:`~loadgen.run.load.model.RunningLoad`."""

    def __init__(
        self,
        setup: RunSetup,
        reports: Reports,
        host: RunHost,
        monitor: EngineMonitor,
        runtime: Runtime,
    ) -> None:
        self.manifest = setup.manifest
        self.live = reports.live
        self.warmed_up = WarmUpResult()
        self.lost: Sequence[str] = ()
        """A sentence about each worker that is gone."""
        self.aborted: str | None = None
        """Why the load ended early; None if it did not."""
        self.is_over = False
        """Whether the run is being stopped, so that the load must end."""
        self._setup, self._reports, self._host = setup, reports, host
        self._monitor, self._runtime = monitor, runtime
        self._pool: WorkerPool | None = None
        self.constant_users: ConstantUsers | None = None
        """How many users there are, and since when; None while their number changes."""
        self.users_changed_ns = setup.began_ns
        """When their number last began to change."""

    def start(self, pool: WorkerPool) -> None:
        """Drive these processes from now on."""
        self._pool = pool

    def abort(self, why: str) -> None:
        """End the load early."""
        self.aborted = self.aborted or why
        self._reports.woken.set()

    def users_change(self) -> None:
        """Note that the number of users begins to change."""
        self.constant_users, self.users_changed_ns = None, self.now()

    def users_are(self, users: int) -> None:
        """Note that there are as many users now as there shall be."""
        self.constant_users = ConstantUsers(users, self.now())
        self.wake()

    def wake(self) -> None:
        """End the present wait."""
        self._reports.woken.set()

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
        return self._reports.all_done

    @property
    def settled_ns(self) -> int:
        """Every request sent before this time (on our clock) has ended, and its record is here."""
        return self._reports.settled_ns

    def now(self) -> Ns:
        """Return the time, ns."""
        return self._runtime.now()

    def start_step(self, *, step: int | None, users: int, spread_s: float, epoch: Ns | None = None) -> None:
        """Let requests be sent, as part of a step with about ``users`` requests at a time."""
        share = self._setup.load.scenario.eager_share(users, self.warmed_up.stream_rate)
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
        self._reports.follow(watcher)

    def wait(self) -> None:
        """Wait until something is done, at most ``TICK_S``; raises LoadAborted if the load cannot go on."""
        if self._reports.woken.wait(TICK_S):
            self._reports.woken.clear()
        self.pool.collect()
        self.tick()
        self.check()

    def save(self) -> None:
        """Write the manifest."""
        self._setup.folder.write_manifest(self.manifest)

    def tick(self) -> None:
        """Show how things are, and sample the engine if it is time."""
        self.live.tick()
        self._monitor.sample()
        self._reports.tick()

    def check(self) -> None:
        """Raise LoadAborted if the load cannot go on."""
        if self.is_over:
            raise LoadAborted("the run is being stopped")
        if self.aborted is not None:
            raise LoadAborted(self.aborted)
        self.lost = self.pool.lost()
        if self.lost:
            raise LoadAborted("; ".join(self.lost))
        if (why := self._reports.useless_tasks) is not None:
            raise LoadAborted(why)
        if self._has_lost_users():
            raise LoadAborted("users have ended by themselves, and requests were still to be made")

    def _has_lost_users(self) -> bool:
        """Whether users that the load needs are gone, some time after Locust had started all."""
        constant = self.constant_users
        if constant is None or not constant.users or self.now() - constant.since < USERS_REPORTED_S * SECOND:
            return False
        load = self._setup.load
        return self._reports.has_no_users(each_needs_some=load.user_option is None and self.live.planned is not None)

"""One run, as whoever conducts it sees it: warms up, applies the load, ends it, and has its summary made."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Protocol

import gevent
from gevent.event import Event

from loadgen.clock import Ns
from loadgen.harness.messages import Go, Report
from loadgen.harness.meter import Meter
from loadgen.harness.part import Part
from loadgen.harness.prepare import Prepared
from loadgen.harness.process import Sender
from loadgen.harness.team import Team, this_process
from loadgen.live.live import Live
from loadgen.measure.energy import EnergySample
from loadgen.measure.facts import EngineCounters
from loadgen.measure.metrics import e2e_ms, tpot_ms
from loadgen.record import RequestRecord
from loadgen.results.clocks import on_one_clock
from loadgen.results.manifest import Ended, Manifest
from loadgen.results.report import write_reports
from loadgen.results.store import RecordFile, RunFolder, merge, read_run
from loadgen.results.summary import Summary, summarise

logger = logging.getLogger(__name__)

Reason = Literal["completed", "run-time", "interrupted"]

TICK_S = 0.5

SETTLE_READS = 4
"""So often an engine's counters are read again that still tell of requests when ours have ended."""

_TIMER_AHEAD_S = 0.5
"""Locust's timer of --run-time starts before we do, while the run is still being set up."""


class Broken(Exception):  # noqa: N818 the load is, the code is not
    """The load cannot be applied any longer: a worker is gone, or the run is being stopped."""


class LoadModel(Protocol):
    """How the load is applied."""

    warm_up_users: int
    """How many requests of the warm-up are made at a time."""

    def play(self, conductor: "Conductor") -> None:
        """Apply it from start to end; ``conductor.wait`` ends it early by raising."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a conductor works with."""

    folder: RunFolder
    own: Part
    """Its own part: the whole of a run of one process, the warm-up of others."""
    new_client: Callable[[Callable[[RequestRecord], None]], Sender | None]
    """Returns a client that hands its records to the function it is given."""
    set_users: Callable[[int], None]
    """Have so many users, over all processes; returns when they are there."""
    counters: Callable[[], EngineCounters | None]
    """Read the engine's own counters."""
    energy: Callable[[], EnergySample | None]
    """Ask the engine's GPUs what they used."""
    drain: Callable[[], None]
    """End what this process itself has in flight."""
    stop_timeout_s: float
    on_warm: Callable[[], None]
    on_complete: Callable[[], None]
    """The run is over by itself; called when its greenlet has ended."""
    on_bug: Callable[[BaseException], None]
    """Code of ours has failed; called in the greenlet that it has failed in."""


class Conductor:
    """Conducts one run."""

    def __init__(self, prepared: Prepared, manifest: Manifest, load: LoadModel, means: Means) -> None:
        self.prepared = prepared
        self.manifest = manifest
        self.scenario = prepared.scenario
        self.live = Live(manifest.planned_requests, len(prepared.plan.warmup), manifest.run_time_s)
        self.means = means
        self.warm_e2e_ms: float | None = None
        """Round trip of an answer in the warm-up, the longest."""
        self.follow: Callable[[Sequence[RequestRecord]], None] = lambda _records: None
        """What the load model does with requests that have ended; their times are on our clock."""
        self.lost: Sequence[str] = ()
        """What has happened to workers that are gone."""
        self.on_tick: Callable[[], None] = lambda: None
        """Called twice a second."""
        self.on_report: Callable[[Report], None] = lambda _report: None
        """Called with each report that was taken."""
        self._load = load
        self._team: Team | None = None
        self._myself = this_process()
        self._received: dict[int, RecordFile | None] = {}
        """Where a worker's records are kept; None where it writes them to our disk itself."""
        self._reported: dict[int, Report] = {}
        self._stream_rate: float | None = None
        self._player: gevent.Greenlet | None = None
        self._woken = Event()
        self._counters: EngineCounters | None = None
        self._stopping = False
        self._complete = False
        self._why: str | None = None
        """Why the load ended early by itself, if so."""
        self._broken: str | None = None
        """What has happened in this process that ends the load."""
        self.unwritten: OSError | None = None
        """Why the last of the run is not on disk, if so."""
        self._wound_down = Event()
        self.began = time.monotonic()
        """When Locust began the run, and its timer of --run-time; workers are asked about themselves before we are."""
        self._ran_for = 0.0
        self._meter = Meter(means.energy)

    @property
    def team(self) -> Team:
        """Who makes the requests."""
        assert self._team is not None
        return self._team

    def begin(self, team: Team) -> None:
        """Start the run in a greenlet of its own."""
        self._team = team
        self.manifest.workers = [self._myself, *(facts for facts in team.facts if facts.number)]
        self.save()
        self._player = gevent.spawn(self._play)
        # However it ends: whoever waits for the run must not wait for a greenlet that is dead.
        self._player.link(lambda _: None if self._stopping else self.means.on_complete())

    def take(self, report: Report) -> None:
        """Take what a process has to tell; before all have begun, that is nothing."""
        if self._team is None:
            return
        self._reported[report.worker] = report
        self._save_unshared(report)
        self.live.take(report)
        self.on_report(report)
        self.follow(on_one_clock(report.records, self.team.facts))
        if report.done:
            self._woken.set()

    def go(self, *, step: int | None, users: int, spread_s: float, epoch: Ns | None = None) -> None:
        """Let requests be made, as part of a step with so many at a time."""
        share = self.scenario.eager_share(users, self._stream_rate)
        self.manifest.itl_share = share
        horizon = self.manifest.run_time_s
        self.team.go(Go(step=step, eager_share=share, spread_s=spread_s, epoch_ns=epoch, horizon_s=horizon))

    def wait(self, seconds: float = TICK_S) -> None:
        """Wait a moment; raises Broken where the load cannot be kept up any longer."""
        if self._woken.wait(seconds):
            self._woken.clear()
        self.team.collect()
        self._tick()
        self._check()

    def break_off(self, why: str) -> None:
        """Have the load end early."""
        self._broken = self._broken or why
        self._woken.set()

    def wake(self) -> None:
        """End the present wait: something has been completed."""
        self._woken.set()

    @property
    def all_done(self) -> bool:
        """Whether all processes have made what was planned."""
        found = [self._reported.get(facts.number) for facts in self.team.facts]
        return all(report is not None and report.done for report in found)

    @property
    def settled_ns(self) -> int:
        """On our clock: every request sent before it has ended, and its record is here."""
        offsets = {facts.number: facts.clock_offset_ns for facts in self.team.facts}
        found = [self._reported.get(number) for number in offsets]
        return min((r.settled_ns + offsets[r.worker] if r is not None else 0) for r in found)

    def save(self) -> None:
        """Write what is known of the run by now."""
        self.means.folder.write_manifest(self.manifest)

    def wind_down(self) -> None:
        """End the load: nothing more is made, what is in flight ends, and all that was recorded is here.

        Whoever calls it first does it; the others wait until it is done.
        """
        if self._stopping:
            self._wound_down.wait()
            return
        self._stopping = True
        self._ran_for = time.monotonic() - self.began
        self.live.state = "draining"
        try:
            if self._player is not None and self._player is not gevent.getcurrent():
                self._player.kill()
            self._drain()
            if self._counters is not None and (after := self._counters_afterwards()) is not None:
                self.manifest.counters = self._counters, after
        finally:
            self._wound_down.set()

    def _counters_afterwards(self) -> EngineCounters | None:
        """Read the engine's counters once our last request has left it, which engines tell a moment late."""
        after = self.means.counters()
        for _ in range(SETTLE_READS):
            if after is None or not (after.running or after.waiting):
                break
            gevent.sleep(TICK_S)
            after = self.means.counters()
        return after

    def _drain(self) -> None:
        """Wait for what is in flight and for the last reports, and go on telling how things are meanwhile."""
        is_last = False

        def tell() -> None:
            try:
                while True:
                    gevent.sleep(TICK_S)
                    if self._team is not None and not is_last:  # after the last report there is none
                        self._team.collect()
                    self._tick()
            except Exception as error:  # noqa: BLE001 logged once, there
                self.means.on_bug(error)

        teller = gevent.spawn(tell)
        try:
            self.means.drain()
        finally:
            is_last = True
            try:
                if self._team is not None:
                    self._team.finish(self.means.stop_timeout_s)
            finally:
                teller.kill()

    def finish(self) -> Summary:
        """Complete the manifest, put the records together, write the reports and return the summary.

        Where the disk does not take them, the summary is returned all the same, and ``unwritten`` says why.
        """
        self.wind_down()
        last = [r for r in self._reported.values() if r.instrument is not None]
        self.manifest.instruments = [r.instrument for r in sorted(last, key=lambda r: r.worker) if r.instrument]
        self.manifest.workers += self.team.late
        self._myself.started_requests = self.means.own.started
        started = sum(facts.started_requests or 0 for facts in self.manifest.workers)
        self.manifest.ended = Ended(
            reason=self._reason(), at=wall_time(), started_requests=started, why=self._why or self._broken
        )
        self.manifest.energy = self._meter.end()
        self.means.own.close()
        for file in self._received.values():
            if file is not None:
                file.close()
        self.live.end()
        path = self.means.folder.path
        self._to_disk(self.save)
        self._to_disk(lambda: merge(path))
        summary = summarise(self.manifest, read_run(path)[1])
        self._to_disk(lambda: write_reports(path, summary))
        return summary

    def _to_disk(self, write: Callable[[], None]) -> None:
        """Write something at the end of the run, as far as the disk takes it."""
        try:
            write()
        except OSError as error:
            self.unwritten = self.unwritten or error

    def _play(self) -> None:
        """Play the whole run. Nothing is raised: what fails is noted, and the run ends with what was recorded."""
        try:
            self._counters = self.means.counters()
            self._warm_up()
            self.means.on_warm()
            self.live.state = "measuring"
            self._load.play(self)
            self._complete = True
        except Broken as broken:
            if not self._stopping:
                self._why = str(broken)
            logger.warning("The load ends early: %s", broken)
        except Exception as error:  # noqa: BLE001 logged once, there
            self.means.on_bug(error)
            self._why = self._broken

    def _check(self) -> None:
        """Raise Broken where the load cannot be kept up any longer."""
        if self._stopping:
            raise Broken("the run is being stopped")
        if self._broken is not None:
            raise Broken(self._broken)
        self.lost = self.team.lost()
        if self.lost:
            raise Broken("; ".join(self.lost))

    def _tick(self) -> None:
        self.live.tick()
        self._meter.tick()
        self.on_tick()

    def _warm_up(self) -> None:
        """Make the warm-up's requests from this process."""
        prompts = deque(self.prepared.plan.warmup)
        records: list[RequestRecord] = []
        own = self.means.own

        def keep(record: RequestRecord) -> None:
            own.keep(record)
            records.append(record)
            self.live.warmed_up(record)

        def make() -> None:
            client = self.means.new_client(keep)
            while prompts and client is not None and not own.finishing:
                request = own.warm_up_request(prompts.popleft())
                try:
                    client.send(request)
                except Exception as error:  # noqa: BLE001 logged once, there
                    own.give_up(request)
                    self.means.on_bug(error)

        makers = [own.requests.spawn(make) for _ in range(min(self._load.warm_up_users, len(prompts)))]
        while len(gevent.joinall(makers, timeout=TICK_S)) < len(makers):
            self._report_warm_up()
            self._tick()
            self._check()
        self._report_warm_up(last=True)
        self._stream_rate = max((1000 / tpot for r in records if (tpot := tpot_ms(r)) is not None), default=None)
        self.warm_e2e_ms = max((e2e for r in records if (e2e := e2e_ms(r)) is not None), default=None)

    def _report_warm_up(self, *, last: bool = False) -> None:
        """Report what this process does, whose part ends with the warm-up where workers make the requests."""
        if any(facts.number == self._myself.number for facts in self.team.facts):
            self.team.collect()
        else:
            self.on_report(self.means.own.report(last=last))

    def _save_unshared(self, report: Report) -> None:
        """Keep what a worker reports whose disk is not ours."""
        worker, folder = report.worker, self.means.folder
        if worker not in self._received:
            self._received[worker] = None if folder.has_records_of(worker) else folder.received(worker)
        file = self._received[worker]
        if file is not None:
            for record in report.records:
                file.append(record)

    def _reason(self) -> Reason:
        if self._complete:
            return "completed"
        elapsed = self._ran_for + _TIMER_AHEAD_S
        limit = self.manifest.run_time_s
        return "run-time" if limit is not None and elapsed >= limit else "interrupted"


def wall_time() -> str:
    """Return the time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")

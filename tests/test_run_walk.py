"""A random walk over everything that may happen to a run, on virtual time."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.virtual_engine import DisplayError, Engine
from support.virtual_run import VirtualLocust
from support.virtual_worker import Worker

from loadgen.record import from_line
from loadgen.results.store import merge_late
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.open_loop import OpenLoop
from loadgen.run.load.sweep import Sweep
from loadgen.run.state import RunState

LOADS = {
    "closed loop": (lambda scenario: ClosedLoop(scenario, 5, None), {}),
    "closed loop of 12 requests": (lambda scenario: ClosedLoop(scenario, 3, None), {"requests": 12}),
    "sweep": (lambda scenario: Sweep(scenario, 1, None), {"steps": "1,3", "step_time": 5.0}),
    "open loop": (lambda scenario: OpenLoop(scenario, 1, None), {"rate": 4.0, "max_in_flight": 20}),
}


class Walk(RuleBasedStateMachine):
    """One run, and what happens to it."""

    @initialize(
        load=st.sampled_from(sorted(LOADS)),
        workers=st.integers(0, 3),
        run_time_s=st.sampled_from([None, 3.0, 20.0]),
        service_s=st.sampled_from([0.3, 2.0]),
    )
    def start(self, load: str, workers: int, run_time_s: float | None, service_s: float) -> None:
        self._folder = Path(tempfile.mkdtemp())
        make, options = LOADS[load]
        if load in {"closed loop", "open loop"} and run_time_s is None:
            run_time_s = 40.0
        self.locust = VirtualLocust(
            self._folder,
            make,
            engine=Engine(service_s=service_s),
            workers=workers,
            run_time_s=run_time_s,
            stop_timeout_s=10.0,
            **options,
        )
        self.may_lose_records = False
        self.states = [RunState.PREPARED]
        self.locust.start()

    @property
    def living(self) -> list[Worker]:
        return [w for w in self.locust.workers_there if not w.process.is_killed]

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.locust.advance(seconds)

    @precondition(lambda self: self.locust.state is not None)
    @rule()
    def interrupt(self) -> None:
        self.locust.process.spawn(self.locust.interrupt)

    @rule()
    def the_engine_hangs_or_goes_on(self) -> None:
        self.locust.engine.hangs = not self.locust.engine.hangs

    @rule()
    def connections_are_refused_or_not(self) -> None:
        self.locust.engine.refuses = not self.locust.engine.refuses

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def a_worker_is_killed(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.living)).process.kill()
        self.may_lose_records = True

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def a_worker_is_frozen_or_thawed(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.living)).process
        if process.is_frozen:
            process.thaw()
        else:
            process.freeze()

    @precondition(lambda self: self.locust.pool is not None and len(self.locust.workers_there) < 4)
    @rule()
    def a_worker_joins(self) -> None:
        self.locust.add_worker()

    @precondition(lambda self: self.locust.state is not None)
    @rule()
    def a_display_fails(self) -> None:
        self.locust.observer.fails = True

    @precondition(lambda self: self.locust.state is RunState.MEASURING and self.locust.pool is None)
    @rule()
    def the_disk_is_full(self) -> None:
        self.locust.fill_disk()
        self.may_lose_records = True

    @invariant()
    def states_go_in_one_direction(self) -> None:
        state = self.locust.state
        if state is not None and state is not self.states[-1]:
            self.states.append(state)
        order = [list(RunState).index(s) for s in self.states]
        assert order == sorted(order)

    def teardown(self) -> None:
        if not hasattr(self, "locust"):
            return
        try:
            self._end()
        finally:
            shutil.rmtree(self._folder)

    def _end(self) -> None:
        locust = self.locust
        for worker in self.living:
            worker.process.thaw()
        locust.engine.hangs = False
        locust.advance(400.0)
        if locust.state is None:  # a worker was lost before the run
            assert locust.said, locust.world.errors
            return
        assert locust.state is RunState.ENDED
        for worker in self.living:
            worker.process.spawn(worker.quit)
        locust.assert_nothing_waits(bugs=any(isinstance(error, DisplayError) for error in locust.bugs))
        self._each_request_has_one_record()

    def _each_request_has_one_record(self) -> None:
        assert self.locust.result is not None
        folder = self.locust.result.folder
        merge_late(folder)
        lines = [line for file in folder.glob("records*.jsonl") for line in file.read_bytes().splitlines()]
        records = Counter(from_line(line).request_id for line in lines)
        assert set(records.values()) <= {1}
        members = [self.locust, *self.locust.workers_there]
        started = sum(member.share.source.started for member in members if member.share is not None)
        if not self.may_lose_records:
            assert len(records) == started


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=40, stateful_step_count=12)

"""What an interruption at any point of a run leaves: the table of docs/architecture.md, on virtual time."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from support.virtual_engine import Engine
from support.virtual_run import VirtualLocust

from loadgen.clock import SECOND
from loadgen.exit_status import ExitStatus
from loadgen.record import from_line
from loadgen.results.store import merge_late, read_folder
from loadgen.run.exporting import Exporter
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.model import LoadModel
from loadgen.run.load.open_loop import OpenLoop
from loadgen.run.load.stages import Stages
from loadgen.run.load.sweep import Sweep
from loadgen.run.state import RunState, can_follow
from loadgen.scenario import Scenario

USERS = 4
TIMES = {RunState.WARMING_UP: 0.6, RunState.MEASURING: 5.5, RunState.DRAINING: 10.3}
"""When a run is in each state: its warm-up takes 2 s, its time is over after 10 s, with requests in flight."""


def closed(scenario: Scenario) -> LoadModel:
    return ClosedLoop(scenario, USERS, None)


def open_loop(scenario: Scenario) -> LoadModel:
    return OpenLoop(scenario, 1, None)


def sweep(scenario: Scenario) -> LoadModel:
    return Sweep(scenario, 1, None)


def interrupt_twice(locust: VirtualLocust) -> None:
    locust.interrupt()
    locust.outside.sleep(0.05)
    locust.interrupt()


def kill_all(locust: VirtualLocust) -> None:
    for worker in locust.workers_there:
        worker.process.kill()


def freeze_one(locust: VirtualLocust) -> None:
    frozen = locust.workers_there[0].process
    frozen.freeze()
    locust.outside.sleep(6.0)
    frozen.thaw()


def fail_to_show(locust: VirtualLocust) -> None:
    locust.observer.fails = True


def kill_exporter(locust: VirtualLocust) -> None:
    exporter = Exporter(Scenario(metrics="127.0.0.1:0"))
    locust.observer.exporter = exporter
    exporter._process.kill()
    exporter._process.wait()


EVENTS: dict[str, tuple[int, Callable[[VirtualLocust], object]]] = {
    "first Ctrl-C, SIGTERM or SIGHUP": (0, VirtualLocust.interrupt),
    "second Ctrl-C": (0, interrupt_twice),
    "a worker is killed, or quits": (2, lambda locust: locust.workers_there[0].process.kill()),
    "all workers are killed": (2, kill_all),
    "a worker joins": (2, VirtualLocust.add_worker),
    "a worker is frozen for 6 s": (2, freeze_one),
    "an error in loadgen": (0, fail_to_show),
    "an error in loadgen, in a worker": (2, lambda locust: locust.workers_there[0].report_bug(KeyError("a bug"))),
    "the disk is full": (0, VirtualLocust.fill_disk),
    "the disk of a worker is full": (2, VirtualLocust.fill_disk),
    "the exporter is killed": (0, kill_exporter),
}
"""By their names in the table: with how many workers, and what happens."""


def table() -> dict[str, dict[RunState, str]]:
    """The cells of the table, by event and state."""
    lines = (ROOT / "docs" / "architecture.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header = next(row for row in rows if row[1:4] == list(TIMES))
    first = rows.index(header) + 2
    events = {row[0]: row for row in rows[first : first + len(EVENTS) + 1] if len(row) == len(header)}
    return {event: dict(zip(TIMES, row[1:4], strict=True)) for event, row in events.items()}


def records_by_request(locust: VirtualLocust) -> Counter[str]:
    """How many records each request has, over all files of the run."""
    assert locust.controller is not None
    lines = [
        line for file in locust.controller.folder.path.glob("records*.jsonl") for line in file.read_bytes().splitlines()
    ]
    return Counter(from_line(line).request_id for line in lines)


def test_the_table_has_each_event() -> None:
    assert set(table()) == set(EVENTS)


@pytest.mark.parametrize("state", TIMES)
@pytest.mark.parametrize("event", EVENTS)
def test_what_an_event_leaves_is_what_the_table_says(event: str, state: RunState, tmp_path: Path) -> None:
    workers, happen = EVENTS[event]
    locust = VirtualLocust(tmp_path, closed, engine=Engine(service_s=2.0), workers=workers, run_time_s=10.0)
    seen: list[RunState | None] = []
    result = locust.run((TIMES[state], lambda: (seen.append(locust.state), happen(locust))))
    assert seen == [state]
    assert locust.state is RunState.ENDED
    assert locust.controller is not None
    assert f"{locust.controller.end_reason}, {locust.exit_status:d}" == table()[event][state]
    locust.assert_nothing_waits(bugs=locust.exit_status is ExitStatus.BUG)
    merge_late(result.folder)
    assert not list(result.folder.glob("records-*.jsonl"))
    assert not list(result.folder.glob("received-*.jsonl"))
    assert set(records_by_request(locust).values()) <= {1}
    if locust.observer.exporter is not None:
        assert locust.observer.exporter.lost
        locust.observer.exporter.close()


@pytest.mark.parametrize(
    ("end", "sigint", "value"),
    [
        (VirtualLocust.interrupt, True, "interrupted by Ctrl-C after "),
        (VirtualLocust.end_run, False, "stopped after "),
    ],
)
def test_who_ended_a_run_is_named_only_where_it_is_known(
    end: Callable[[VirtualLocust], None], value: str, tmp_path: Path, *, sigint: bool
) -> None:
    locust = VirtualLocust(tmp_path, closed, run_time_s=10.0)
    result = locust.run((5.5, lambda: end(locust)))
    ended = read_folder(result.folder)[0].ended
    assert ended is not None
    assert (ended.reason, ended.sigint) == ("interrupted", sigint)
    (check,) = [check for check in result.summary.verdict.checks if check.name == "run complete"]
    assert (check.value or "").startswith(value)


def test_a_run_goes_through_its_states_once_and_in_one_direction() -> None:
    order = list(RunState)
    for state in order:
        assert all(order.index(following) > order.index(state) for following in order if can_follow(state, following))
        assert state is RunState.ENDED or any(can_follow(state, following) for following in order)


def test_a_run_of_all_planned_requests_is_completed_whatever_ends_it_later(tmp_path: Path) -> None:
    first = VirtualLocust(tmp_path / "first", closed, workers=2, run_time_s=60.0, requests=20)
    drains: list[float] = []
    looks = [
        (at / 100, lambda at=at: first.state is RunState.DRAINING and drains.append(at / 100)) for at in range(3000)
    ]
    first.run(*looks)
    locust = VirtualLocust(tmp_path, closed, workers=2, run_time_s=60.0, requests=20)
    locust.run(*[(at, locust.interrupt) for at in drains])
    assert locust.controller is not None
    assert (locust.controller.end_reason, locust.exit_status) == ("completed", ExitStatus.OK)
    locust.assert_nothing_waits()


def test_a_warm_up_that_outlives_the_run_time_leaves_nothing_to_measure_by(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, closed, engine=Engine(service_s=30.0), run_time_s=5.0)
    result = locust.run()
    assert locust.controller is not None
    assert (locust.controller.end_reason, locust.exit_status) == ("run-time", ExitStatus.INCONCLUSIVE)
    advice = {check.name: check.advice or "" for check in result.summary.verdict.checks}
    assert "--run-time was over, which includes the warm-up" in advice["enough samples"]
    assert len(records_by_request(locust)) == 2
    locust.assert_nothing_waits()


def test_requests_that_do_not_end_are_aborted_after_the_stop_timeout(tmp_path: Path) -> None:
    engine = Engine()
    locust = VirtualLocust(tmp_path, closed, engine=engine, run_time_s=10.0, stop_timeout_s=7.0)
    result = locust.run((5.5, lambda: setattr(engine, "hangs", True)))
    assert result.summary.requests.aborted == USERS
    assert locust.seconds == pytest.approx(17.0, abs=1.0)
    engine.hangs = False
    locust.assert_nothing_waits()


def test_the_schedule_of_an_open_loop_that_outlives_the_run_ends_with_it(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, open_loop, rate=5.0, run_time_s=20.0, engine=Engine(places=100))
    result = locust.run()
    assert locust.controller is not None
    assert (locust.controller.end_reason, locust.exit_status) == ("run-time", ExitStatus.OK)
    due = [r.scheduled_ns for r in locust.records if r.scheduled_ns is not None]
    assert result.summary.requests.started == len(due) > 50
    assert max(due) - min(due) < 20 * SECOND
    locust.assert_nothing_waits()


def test_an_open_loop_does_not_wait_for_answers_and_drops_what_is_too_much(tmp_path: Path) -> None:
    engine = Engine(places=1, service_s=5.0)
    locust = VirtualLocust(tmp_path, open_loop, rate=4.0, requests=60, max_in_flight=8, engine=engine)
    result = locust.run()
    counted = result.summary.requests
    assert counted.dropped > 30
    assert counted.started == 60
    locust.assert_nothing_waits()


def test_the_shards_of_an_open_loop_are_its_schedule_on_workers_with_other_clocks(tmp_path: Path) -> None:
    alone = VirtualLocust(tmp_path / "alone", open_loop, rate=5.0, requests=50, engine=Engine(places=100))
    alone.run()
    shared = VirtualLocust(tmp_path / "shared", open_loop, rate=5.0, requests=50, engine=Engine(places=100), workers=3)
    shared.run()
    gaps = [
        [due - dues[0] for due in dues]
        for dues in (sorted(r.scheduled_ns for r in of.records if r.scheduled_ns is not None) for of in (alone, shared))
    ]
    assert gaps[0] == gaps[1]


@pytest.mark.parametrize(
    ("options", "ended_by", "users"),
    [
        ({"steps": "4,8", "precision": "20%"}, ["precision", "precision"], [4, 8]),
        ({"steps": "1,2", "precision": "0.1%"}, ["step-time", "step-time"], [1, 2]),
        ({"steps": "auto", "precision": "20%"}, None, [1, 2, 4, 8, 16]),
        ({"steps": "auto", "precision": "20%", "slo": "e2e_ms=80"}, None, [1, 2, 4, 8]),
    ],
)
def test_a_sweep_ends_its_steps_and_itself(
    options: dict[str, str], ended_by: list[str] | None, users: list[int], tmp_path: Path
) -> None:
    engine = Engine(service_s=0.05, places=4)
    locust = VirtualLocust(tmp_path, sweep, engine=engine, warm_up=1, step_time=4.0, **options)
    locust.has_result = False
    controller = locust.drain()
    steps = controller.manifest.steps
    assert [step.concurrency for step in steps] == users
    if ended_by is not None:
        assert [step.ended_by for step in steps] == ended_by
    assert controller.end_reason == "completed"
    locust.assert_nothing_waits()


@pytest.mark.parametrize(
    ("asked", "parts"),
    [
        ("auto", ["1, 2, 4, 8, 16, ... 16,384 users, until throughput stops growing"]),
        ("1,2,4", ["Sweep with 1, 2, 4 users. A step takes 4 s", "at most 12 s while"]),
        ("1", ["Sweep with 1 user. A step"]),
    ],
)
def test_a_sweep_announces_its_steps_and_how_long_one_may_take(
    asked: str, parts: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    locust = VirtualLocust(tmp_path, sweep, engine=Engine(service_s=0.05), warm_up=1, step_time=4.0, steps=asked)
    locust.has_result = False
    with caplog.at_level("INFO"):
        locust.drain((1.0, locust.interrupt))
    (announced,) = [r.message for r in caplog.records if r.message.startswith("Sweep with")]
    for part in parts:
        assert part in announced


@pytest.mark.parametrize(
    ("load", "options", "run_time_s", "end"),
    [
        (ClosedLoop, {}, None, "after 100 requests (as many as the sample has prompts)"),
        (ClosedLoop, {"requests": 7}, None, "after 7 requests (--requests)"),
        (ClosedLoop, {}, 90.0, "after 90 s (--run-time), the warm-up included"),
        (
            ClosedLoop,
            {"requests": 7},
            90.0,
            "after 7 requests (--requests), or after 90 s (--run-time), the warm-up included, whichever is first",
        ),
        (
            Sweep,
            {"steps": "1,2", "step_time": 20.0},
            None,
            "after its last step, at most 2 steps and 3 min after the warm-up",
        ),
        (
            OpenLoop,
            {"rate": 4.0},
            None,
            "after 100 requests (as many as the sample has prompts), which are due within about 25 s",
        ),
        (OpenLoop, {"rate": 4.0}, 60.0, "after 60 s (--run-time), the warm-up included"),
        (Stages, {}, None, "when its LoadTestShape ends"),
        (Stages, {"requests": 7}, None, "when its LoadTestShape ends, or after 7 requests (--requests)"),
    ],
)
def test_a_run_announces_what_will_end_it(
    load: type[LoadModel], options: dict[str, object], run_time_s: float | None, end: str
) -> None:
    model = load(Scenario(**options), 1, None)  # type: ignore[arg-type]
    assert model.end_announcement(run_time_s) == f"The run ends {end}."


def test_a_step_of_which_no_request_ends_aborts_the_sweep(tmp_path: Path) -> None:
    engine = Engine()
    locust = VirtualLocust(tmp_path, sweep, engine=engine, steps="1,2", step_time=2.0, stop_timeout_s=5.0)
    result = locust.run((8.0, lambda: setattr(engine, "hangs", True)))
    assert locust.controller is not None
    assert locust.controller.end_reason == "interrupted"
    (check,) = [check for check in result.summary.verdict.checks if check.name == "run complete"]
    assert "still in flight after 10 times --step-time" in (check.value or "")
    engine.hangs = False
    locust.assert_nothing_waits()


def test_a_step_that_is_interrupted_is_broken_off(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, sweep, steps="1,2,4", step_time=20.0, precision="0.1%")
    locust.has_result = False
    controller = locust.drain((30.0, locust.interrupt))
    assert [step.ended_by for step in controller.manifest.steps] == ["step-time", "broken off"]


def test_a_worker_whose_master_is_gone_keeps_its_records_and_ends(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, closed, workers=1, run_time_s=60.0)
    locust.start()
    locust.advance(8.0)
    locust.process.kill()
    locust.answers_heartbeats = False
    locust.advance(30.0)
    (worker,) = locust.workers_there
    assert worker.has_lost_run
    assert worker.has_quit
    assert worker.share is not None
    kept = (tmp_path / "run" / "records-1.jsonl").read_bytes().splitlines()
    assert len(kept) == worker.share.source.started > 10


def test_a_worker_that_is_frozen_while_its_run_ends_loses_no_record(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, closed, workers=2, run_time_s=10.0)
    result = locust.run((5.5, lambda: freeze_one(locust)))
    locust.assert_nothing_waits()
    assert locust.workers_there[0].has_lost_run
    merge_late(result.folder)
    started = sum(worker.share.source.started for worker in locust.workers_there if worker.share is not None)
    assert len(records_by_request(locust)) == started


def test_a_worker_that_is_gone_before_the_run_ends_it_as_invalid(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, closed, workers=2)
    locust.workers_there[1].process.kill()
    locust.start()
    locust.advance(20.0)
    assert locust.exit_status is ExitStatus.INVALID
    assert "is gone, before the run began" in locust.said[0]
    assert locust.result is None


def test_more_workers_than_users_are_refused_before_the_run(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, closed, workers=USERS + 1, requests=20)
    locust.start()
    locust.advance(20.0)
    assert locust.exit_status is ExitStatus.USAGE
    assert f"--users {USERS} with {USERS + 1} workers" in locust.said[0]
    assert locust.state is None


def test_a_worker_that_joins_while_the_others_are_checked_takes_part(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, closed, workers=1, requests=20)
    slow = locust.workers_there[0].process
    slow.freeze()
    locust.start()
    locust.advance(1.0)
    locust.add_worker().process.freeze()
    slow.thaw()
    locust.advance(1.0)
    locust.workers_there[1].process.thaw()
    locust.advance(60.0)
    assert locust.exit_status is ExitStatus.OK
    assert locust.controller is not None
    assert [worker.number for worker in locust.controller.manifest.workers] == [0, 1, 2]


@pytest.mark.parametrize(
    ("load", "options"),
    [(closed, {}), (sweep, {"steps": "2,4", "step_time": 20.0}), (open_loop, {"rate": 5.0})],
    ids=["closed loop", "sweep", "open loop"],
)
def test_a_run_whose_workers_are_all_killed_ends_whatever_its_load(
    load: Callable[[Scenario], LoadModel], options: dict[str, Any], tmp_path: Path
) -> None:
    locust = VirtualLocust(tmp_path, load, workers=2, run_time_s=60.0, **options)
    locust.has_result = False
    controller = locust.drain((8.0, lambda: kill_all(locust)))
    assert controller.end_reason == "interrupted"
    assert [worker.lost is not None for worker in controller.manifest.workers] == [False, True, True]
    assert locust.seconds < 20.0


def test_a_sweep_whose_steps_are_killed_one_worker_at_a_time_ends_at_the_first(tmp_path: Path) -> None:
    locust = VirtualLocust(tmp_path, sweep, workers=2, steps="2,4", step_time=20.0)
    locust.has_result = False
    first, second = locust.workers_there
    controller = locust.drain((8.0, first.process.kill), (9.0, second.process.kill))
    assert controller.end_reason == "interrupted"
    assert [step.ended_by for step in controller.manifest.steps] == ["broken off"]

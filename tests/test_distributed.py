"""A run of several processes: nothing is lost, whoever is killed or interrupted, and mistakes are told."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from cluster import (
    FEW,
    Starter,
    assert_all_is_there,
    assert_ends_well,
    assert_shards_are_disjoint,
    engine,
)
from conftest import ROOT, free_port, records_of
from serving import SSE_HEAD, Request, Step, answer, chunk, serving, stream, token

from loadgen.clock import now
from loadgen.record import Outcome

sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks import kills

SWEEP = ROOT / "locustfiles" / "sweep.py"

ENDED = "it ended with exit status 0"
"""What a busy master says of a worker that has quit: it hears of the process's end before it reads the last message."""


def test_a_sweep_by_two_forked_processes_loses_nothing(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=30, itl_ms=5) as server:
        run = start.forked(server.host, *FEW, "--steps", "2,4", "--step-time", "6", locustfile=SWEEP)
        assert_ends_well(run)
    records = assert_all_is_there(run)
    assert {r.worker for r in records} == {1, 2}
    assert {r.step for r in records} == {0, 1}
    assert [s["concurrency"] for s in run.summary["steps"]] == [2, 4]
    assert run.checks["workers"]["status"].upper() == "OK"


def test_a_chat_by_two_forked_processes_loses_nothing(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        run = start.forked(server.host, *FEW, "--users", "4", "--requests", "40")
        assert_ends_well(run)
    records = assert_all_is_there(run)
    assert len(records) == 40
    assert {r.worker: 0 for r in records} == {1: 0, 2: 0}
    assert {r.round for r in records} == {0, 1}
    assert_shards_are_disjoint(records)
    assert set(server.truths()) >= {r.request_id for r in records}


def test_a_chat_by_workers_started_by_hand_loses_nothing(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        load = ("--host", server.host, *FEW, "--users", "4", "--requests", "40")
        run = start.master(port, *load, "--expect-workers", "2")
        workers = [start.worker(name, port) for name in ("one", "two")]
        assert_ends_well(run)
        assert [w.wait() for w in workers] == [0, 0]
    records = assert_all_is_there(run)
    assert sorted({r.worker for r in records}) == [1, 2]
    assert_shards_are_disjoint(records)
    assert not any(w.results.exists() for w in workers)  # they see the master's disk
    assert {w["pid"] for w in run.manifest["workers"]} == {p.process.pid for p in [run, *workers]}


def test_what_workers_with_disks_of_their_own_record_is_at_the_master_and_there(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        load = ("--host", server.host, *FEW, "--users", "4", "--requests", "40")
        run = start.master(port, *load, "--expect-workers", "2", "--results", "/proc/self/cwd/results")
        workers = [start.worker(name, port) for name in ("one", "two")]
        assert_ends_well(run)
        assert [w.wait() for w in workers] == [0, 0]
    records = assert_all_is_there(run)
    assert len(records) == 40
    assert_shards_are_disjoint(records)
    theirs = [r for w in workers for r in records_of(w.folder)]
    assert {r.request_id for r in theirs} == {r.request_id for r in records_of(run.folder)}
    assert all(r.chunk_ns for r in theirs if not r.lazy)
    assert not any(r.chunk_ns for r in records)  # too much for a periodic report


def test_after_the_kill_of_a_worker_what_had_not_been_reported_is_on_its_own_disk(
    start: Starter, tmp_path: Path
) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=8, itl_ms=1) as server:
        load = ("--host", server.host, *FEW, "--users", "8", "--requests", "1000000", "--stop-timeout", "5")
        run = start.master(port, *load, "--expect-workers", "2", "--results", "/proc/self/cwd/results")
        one, two = (start.worker(name, port) for name in ("one", "two"))
        one.when_measuring(1)
        time.sleep(2.3)
        at = now()
        one.process.kill()
        assert run.wait() == 3, run.said
        assert two.wait() == 0, two.said
    at_master = {r.request_id for r in records_of(run.folder)}
    on_disk = {r.request_id for r in records_of(one.folder)}
    ended = kills.ended_before(server, run.folder.name, at)
    assert not ended - at_master - on_disk
    assert at_master & on_disk  # what it had reported
    assert {r.request_id for r in records_of(two.folder)} <= at_master
    assert run.summary["verdict"]["status"].upper() == "INVALID"
    assert f"process {one.process.pid}" in run.checks["workers"]["value"]


def test_a_worker_that_comes_late_ends_the_run_and_is_named(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=50, itl_ms=10) as server:
        run = start.master(
            port, "--host", server.host, *FEW, "--users", "4", "--requests", "100000", "--expect-workers", "1"
        )
        one = start.worker("one", port)
        run.when_measuring(1)
        late = start.worker("late", port)
        assert run.wait() == 3, run.said
        assert [one.wait(), late.wait()] == [0, 0]
    assert_all_is_there(run)
    assert f"process {late.process.pid}: it came while the run went on" in run.checks["workers"]["value"]
    assert {w["pid"]: bool(w["lost"]) for w in run.manifest["workers"]} == {
        run.process.pid: False,
        one.process.pid: False,
        late.process.pid: True,
    }


def test_a_worker_that_was_cut_off_for_a_while_leaves_its_records_for_the_next_report(
    start: Starter, tmp_path: Path
) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=500, itl_ms=100) as server:
        load = ("--host", server.host, *FEW, "--users", "4", "--requests", "100000")
        run = start.master(port, *load, "--expect-workers", "2")
        one, two = (start.worker(name, port) for name in ("one", "two"))
        run.when_measuring()
        one.process.send_signal(signal.SIGSTOP)
        assert run.wait() == 3, run.said
        one.process.send_signal(signal.SIGCONT)
        assert [one.wait(), two.wait()] == [4, 0]
    ended = kills.ended_before(server, run.folder.name, now())
    assert kills.report(run.folder).returncode == 3
    assert run.summary["requests"]["completed"] == len(ended) - 2  # without the warm-up
    assert ended == {r.request_id for r in records_of(run.folder)}


def test_no_finished_request_is_missing_after_the_kill_of_a_worker(tmp_path: Path) -> None:
    found = kills.kill_one(tmp_path, "worker", random.Random(1))
    assert not found.faults
    assert found.ended_before > 0


def test_after_the_kill_of_the_master_workers_end_and_a_report_has_all(tmp_path: Path) -> None:
    found = kills.kill_one(tmp_path, "master", random.Random(4))
    assert not found.faults
    assert found.ended_before > 0
    assert found.gone_s < kills.ORPHANS_S


@pytest.mark.parametrize("whom", ["group", "master"])
def test_an_interrupt_ends_all_processes_in_order(whom: str, start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=50, itl_ms=10) as server:
        run = start.forked(server.host, *FEW, "--users", "4", "--requests", "100000")
        run.when_measuring()
        if whom == "group":  # as Ctrl-C in a terminal does
            os.killpg(run.process.pid, signal.SIGINT)
        else:
            run.process.terminate()
        assert run.wait() == 4, run.said
    records = assert_all_is_there(run)
    assert {r.outcome for r in records} == {Outcome.OK}
    assert run.manifest["ended"]["reason"] == "interrupted"
    assert {w["lost"] for w in run.manifest["workers"]} == {None}
    assert "Traceback" not in run.said


@pytest.mark.parametrize("whom", ["group", "master"])
def test_a_second_interrupt_aborts_what_all_processes_have_in_flight(whom: str, start: Starter) -> None:
    def script(number: int, _request: Request) -> Sequence[Step]:
        return answer(1) if number == 0 else [(0, SSE_HEAD + chunk(token("a"))), (40, b"")]

    with serving(script) as server:
        run = start.forked(server.url, *FEW, "--warmup", "0", "--users", "4")
        due = time.monotonic() + 300
        while len(server.requests) < 5 and time.monotonic() < due:
            time.sleep(0.1)
        interrupt = os.killpg if whom == "group" else os.kill
        for _ in range(2):
            interrupt(run.process.pid, signal.SIGINT)
            time.sleep(1)
        assert run.wait() in {3, 4}, run.said  # not one answer is complete
    records = assert_all_is_there(run)
    assert [r.outcome for r in records] == [Outcome.ABORTED] * 4
    assert {w["lost"] for w in run.manifest["workers"]} <= {None, ENDED}
    assert "Traceback" not in run.said


@pytest.mark.parametrize("whom", ["group", "worker"])
def test_a_worker_that_is_told_to_end_tells_the_master_all_before(whom: str, start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=500, itl_ms=250) as server:
        run = start.forked(server.host, *FEW, "--users", "4", "--requests", "100000")
        run.when_measuring()
        at = now()
        if whom == "group":
            os.killpg(run.process.pid, signal.SIGTERM)
        else:
            os.kill(kills.workers_of(run.process.pid)[0], signal.SIGTERM)
        assert run.wait() in {3, 4}, run.said
    records = assert_all_is_there(run)
    assert {r.outcome for r in records} == {Outcome.OK}
    sent = {t.request_id for t in server.truths().values() if t.received_ns < at and t.request_id.startswith("2")}
    assert sent <= {r.request_id for r in records_of(run.folder)}
    if whom == "worker":
        assert sum(w["lost"] in {"it quit", ENDED} for w in run.manifest["workers"]) == 1
        assert run.summary["verdict"]["status"].upper() == "INVALID"


def test_requests_that_outlast_the_drain_are_recorded_by_all_processes(start: Starter) -> None:
    def script(number: int, _request: Request) -> Sequence[Step]:
        return answer(1) if number == 0 else [(0, SSE_HEAD + chunk(token("a"))), (30, b"")]

    with serving(script) as server:
        run = start.forked(server.url, "--users", "4", "--warmup", "0", "--sample", "20", "--stop-timeout", "1")
        due = time.monotonic() + 300
        while len(server.requests) < 5 and time.monotonic() < due:
            time.sleep(0.1)
        os.kill(run.process.pid, signal.SIGINT)
        assert run.wait() in {3, 4}, run.said  # not one answer is complete
    records = assert_all_is_there(run)
    assert [r.outcome for r in records] == [Outcome.ABORTED] * 4
    assert {w["lost"] for w in run.manifest["workers"]} == {None}


IMPATIENT = """
import locust.runners
locust.runners.MASTER_HEARTBEAT_TIMEOUT = 12
from locust.main import main
main()
"""
"""Locust, with a worker that leaves a master which is silent for twelve seconds, not sixty."""


def test_a_drain_longer_than_locusts_patience_loses_no_worker(start: Starter, tmp_path: Path) -> None:
    def script(number: int, _request: Request) -> Sequence[Step]:
        return answer(1) if number == 0 else stream(token("a", "length"), pause=18.0)

    program = tmp_path / "impatient.py"
    program.write_text(IMPATIENT)
    with serving(script) as server:
        limits = ("--warmup", "0", "--sample", "20", "--run-time", "6s", "--stop-timeout", "60")
        run = start.forked(server.url, "--users", "2", *limits, program=[sys.executable, str(program)])
        assert run.wait() in {0, 3}, run.said
    records = assert_all_is_there(run)
    assert {r.outcome for r in records} == {Outcome.OK}
    assert run.checks["workers"]["status"].upper() == "OK", run.checks["workers"]


def test_what_is_tested_inside_locusts_process_holds() -> None:
    """Importing the harness has gevent patch the whole process, which this one must not be."""
    program = "from gevent import monkey; monkey.patch_all(); import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    inside = ROOT / "tests" / "inside_locust.py"
    command = [sys.executable, "-c", program, "-q", "-p", "no:cacheprovider", str(inside)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout

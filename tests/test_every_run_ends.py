"""Whatever dies, a run ends by itself, with a report, and with an exit status that says what came of it."""

import errno
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import FEW, Started, Starter, assert_all_is_there, engine
from conftest import CHAT, ROOT, Locust, clean_environment, free_port, records_of
from serving import answer, serving
from support.locust_process import LOCUST, run_to_end

from loadgen.record import Outcome

sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks import kills

FAULTY = ROOT / "tests" / "faulty_chat.py"
SWEEP = ROOT / "locustfiles" / "sweep.py"
ENDLESS = (*FEW, "--users", "4", "--requests", "1000000", "--stop-timeout", "5")


def sentences(run: Started) -> list[str]:
    return [line for line in run.said.splitlines() if line.startswith("loadgen: ")]


def lost(run: Started) -> set[int]:
    return {w["pid"] for w in run.manifest["workers"] if w["lost"]}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_whose_forked_workers_are_all_gone_ends(number: signal.Signals, start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        run = start.forked(server.host, *ENDLESS)
        run.when_measuring()
        workers = kills.workers_of(run.process.pid)
        for worker in workers:
            os.kill(worker, number)
        assert run.wait() == 3, run.said
    assert run.summary["verdict"]["status"] == "INVALID"
    if number is signal.SIGTERM:  # whichever reaches the end of the run in time is not lost
        assert lost(run)
        assert lost(run) <= set(workers)
    else:
        assert lost(run) == set(workers)
        assert run.checks["workers"]["value"].count("killed by SIGKILL") == 2
    assert "Traceback" not in run.said


def test_a_run_whose_workers_were_all_killed_at_once_ends(start: Starter, tmp_path: Path) -> None:
    port = str(free_port())
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        bound = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "2")
        load = (*FEW, "--steps", "2,4", "--step-time", "60", "--stop-timeout", "5")
        run = start("--headless", *bound, "--host", server.host, *load, locustfile=SWEEP)
        joins = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
        workers = [start(*joins, name=name, locustfile=SWEEP) for name in ("one", "two")]
        run.when_measuring()
        for worker in workers:
            worker.process.kill()
        assert run.wait() == 3, run.said
    assert run.summary["verdict"]["status"] == "INVALID"
    assert lost(run) == {worker.process.pid for worker in workers}


@pytest.mark.parametrize("where", ["alone", "master", "worker"])
def test_a_run_in_which_a_greenlet_of_ours_dies_ends_as_a_bug_with_a_report(
    where: str, start: Starter, tmp_path: Path
) -> None:
    """Each greenlet there is, one after another; the first run tells which there are."""
    victims, number = [""], 0
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        while number < len(victims):
            fault = {"FAULT": str(number), "FAULT_IN": where}
            more = {"name": f"run-{number}", "locustfile": FAULTY, "environment": fault}
            if where == "alone":
                run = start("--headless", "--host", server.host, *ENDLESS, **more)
            else:
                run = start.forked(server.host, *ENDLESS, **more)
            assert run.wait() == 1, run.said
            victims = (tmp_path / f"run-{number}" / "greenlets").read_text().split("\n")
            (sentence,) = sentences(run)
            assert "RuntimeError" in sentence or "in worker" in sentence
            assert "exit status 1" in sentence
            assert str(run.folder) in sentence
            assert run.said.count("Traceback") == 1
            assert run.summary["requests"]["completed"] > 0
            assert run.summary["verdict"]["status"] in {"INVALID", "INCONCLUSIVE"}
            assert not list(run.results.rglob("*.part"))
            number += 1
    assert victims[0]


@pytest.mark.parametrize(("fault", "where"), [("encode", "worker"), ("decode", "master")])
def test_a_message_that_cannot_be_made_or_read_ends_the_run_as_a_bug(
    fault: str, where: str, start: Starter, tmp_path: Path
) -> None:
    with engine(tmp_path, ttft_ms=20, itl_ms=2) as server:
        faulty = {"locustfile": FAULTY, "environment": {"FAULT": fault, "FAULT_IN": where}}
        run = start.forked(server.host, *ENDLESS, **faulty)
        assert run.wait() == 1, run.said
    (sentence,) = sentences(run)
    assert "exit status 1" in sentence
    assert run.said.count("Traceback") == 1
    assert run.summary["verdict"]["status"] in {"INVALID", "INCONCLUSIVE"}


def test_what_cannot_be_exported_ends_the_export_and_not_the_run(locust: Locust) -> None:
    with serving(answer(2, pause=0.02)) as server:
        done = locust(
            *("--host", server.url, *FEW, "--requests", "60", "--metrics", "127.0.0.1:0", "-f", str(FAULTY)),
            environment={"FAULT": "encode"},
        )
    done.assert_ended_well()
    assert "No metrics any more" in done.err
    assert done.summary["requests"]["completed"] == 60


def test_a_worker_that_joins_and_dies_before_the_run_begins_ends_it(start: Starter) -> None:
    runs = []
    with serving(answer(1)) as server:
        for name, limit in (("soon", ("--run-time", "2s")), ("at-all", ())):
            port = str(free_port())
            bound = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", "1")
            runs.append(start("--headless", *bound, "--host", server.url, *FEW, *limit, name=name))
            joins = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
            dies = {"FAULT": "kill", "FAULT_IN": "worker"}
            start(*joins, name=f"{name}-worker", locustfile=FAULTY, environment=dies)
        for run in runs:
            assert run.wait() == 3, run.said
            (sentence,) = sentences(run)
            assert f"worker {os.uname().nodename}" in sentence
            assert "exit status 3" in sentence
            assert "version" not in sentence


def test_a_forked_worker_that_dies_before_it_joins_ends_the_run_at_once(start: Starter) -> None:
    with serving(answer(1)) as server:
        dies = {"locustfile": FAULTY, "environment": {"FAULT": "fork", "FAULT_IN": "worker"}}
        run = start.forked(server.url, *FEW, "--users", "2", **dies)
        assert run.wait(60) == 3, run.said  # it would wait for 120 s
    (sentence,) = sentences(run)
    assert "it ended with exit status 7" in sentence
    assert "before the run began" in sentence
    assert "Traceback" not in run.said


@pytest.mark.parametrize("whom", ["group", "master"])
def test_a_hangup_ends_all_processes_in_order(whom: str, start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=50, itl_ms=10) as server:
        run = start.forked(server.host, *FEW, "--users", "4", "--requests", "100000")
        run.when_measuring()
        send = os.killpg if whom == "group" else os.kill
        send(run.process.pid, signal.SIGHUP)
        assert run.wait() in ({4} if whom == "master" else {3, 4}), run.said  # workers may be gone first
    records = assert_all_is_there(run)
    assert {r.outcome for r in records} == {Outcome.OK}
    assert "Traceback" not in run.said


def test_a_process_that_is_told_to_end_while_it_ends_does_so_once(locust: Locust) -> None:
    with serving(answer(2)) as server:
        fault = {"FAULT": "terminate", "FAULT_IN": "alone"}
        done = locust("--host", server.url, *FEW, "--requests", "4", "-f", str(FAULTY), environment=fault)
    done.assert_ended_well()
    assert done.err.count("Got SIGTERM") == 1
    assert done.out.count("told to end while ending") == 1


def test_a_master_that_is_told_to_end_while_it_waits_for_workers_ends(start: Starter) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    with serving(answer(1)) as server:
        runs = []
        for number in numbers:
            bound = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(free_port()))
            runs.append(start("--headless", *bound, "--host", server.url, *FEW, name=number.name))
        due = time.monotonic() + 60
        while len(server.requests) < len(runs):  # each has looked at its server
            assert time.monotonic() < due, [run.said for run in runs]
            time.sleep(0.05)
        for number, run in zip(numbers, runs, strict=True):
            run.process.send_signal(number)
        for run in runs:
            assert run.wait(30) == 4, run.said
            (sentence,) = sentences(run)
            assert "before a run began" in sentence
            assert "exit status 4" in sentence
            assert "Traceback" not in run.said


def test_a_run_that_ignores_hangups_goes_on(start: Starter, tmp_path: Path) -> None:
    with engine(tmp_path, ttft_ms=50, itl_ms=10) as server:
        nohup = ("nohup", *LOCUST)
        run = start.forked(server.host, *FEW, "--users", "4", "--requests", "60", program=nohup)
        run.when_measuring()
        os.killpg(run.process.pid, signal.SIGHUP)
        assert run.wait() in {0, 3}, run.said  # 3 where this machine is busy
    assert run.manifest["ended"]["reason"] == "completed"


def test_a_run_whose_terminal_is_closed_leaves_a_report(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with engine(tmp_path, ttft_ms=50, itl_ms=10) as server:
        child, terminal = pty.fork()
        if child == 0:
            arguments = [*LOCUST, "-f", str(CHAT), "--headless", "--host", server.host, *FEW, "--requests", "100000"]
            os.chdir(tmp_path)
            os.execve(sys.executable, [*arguments, "--results", str(results)], clean_environment())
        due = time.monotonic() + 60
        while not any(path.stat().st_size for path in results.glob("*/records-0.jsonl")):
            assert time.monotonic() < due
            time.sleep(0.05)
        drain(terminal)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    (folder,) = results.iterdir()
    assert {path.name for path in folder.glob("*.jsonl")} == {"records.jsonl"}
    assert (folder / "summary.json").exists()
    assert {r.outcome for r in records_of(folder)} == {Outcome.OK}


def drain(terminal: int) -> None:
    """Read what is there: a process that writes to a full terminal would wait for ever."""
    os.set_blocking(terminal, False)
    try:
        while os.read(terminal, 65536):
            pass
    except BlockingIOError:
        os.set_blocking(terminal, True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_characters_shows_the_verdict(encoding: str, locust: Locust) -> None:
    with serving(answer(3)) as server:
        arguments = ("--host", server.url, *FEW, "--requests", "12")
        done = locust(*arguments, environment={"PYTHONIOENCODING": encoding})
    done.assert_ended_well()
    assert done.summary["verdict"]["status"] in done.out
    assert str(done.folder) in done.out
    assert "Traceback" not in done.err


def test_a_verdict_that_cannot_be_shown_is_no_exit_status_0(tmp_path: Path) -> None:
    with serving(answer(3)) as server, Path("/dev/full").open("w") as full:
        done = run_to_end(
            [*LOCUST, "-f", str(CHAT), "--headless", "--host", server.url, *FEW, "--requests", "12"],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 4, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("loadgen: ")]
    assert os.strerror(errno.ENOSPC) in sentence
    assert "Traceback" not in done.stderr


def test_a_web_ui_that_is_closed_without_a_run_has_no_exit_status_0(start: Starter) -> None:
    with serving(answer(1)) as server:
        run = start("--host", server.url, *FEW, "--web-host", "127.0.0.1", "--web-port", str(free_port()))
        due = time.monotonic() + 60
        while "Starting web interface" not in run.said:
            assert time.monotonic() < due
            time.sleep(0.1)
        time.sleep(1)
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 4, run.said
    assert sentences(run) == ["loadgen: no run was made, so there is no verdict; exit status 4."]


def test_a_run_whose_exporter_is_killed_goes_on_to_its_end(tmp_path: Path) -> None:
    assert not kills.kill_one(tmp_path, "exporter", random.Random(1)).faults


def test_records_that_a_frozen_worker_wrote_afterwards_are_merged_by_the_next_report(
    start: Starter, tmp_path: Path
) -> None:
    with engine(tmp_path, ttft_ms=50, itl_ms=10) as server:
        run = start.forked(server.host, *FEW, "--users", "4", "--requests", "100000")
        run.when_measuring()
        frozen = kills.workers_of(run.process.pid)[0]
        os.kill(frozen, signal.SIGSTOP)
        try:
            assert run.process.wait(60) == 3, run.said
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert run.wait() == 3
    left = {path.name for path in run.folder.glob("*.jsonl")}
    assert kills.report(run.folder).returncode == 3
    assert left - {"records.jsonl"}, "it has written nothing afterwards, so that this test has tested nothing"
    assert {path.name for path in run.folder.glob("*.jsonl")} == {"records.jsonl"}
    lines = (run.folder / "records.jsonl").read_bytes().splitlines()
    assert len(lines) == len(records_of(run.folder))
    assert run.summary["requests"]["completed"] == len(lines) - 2  # without the warm-up

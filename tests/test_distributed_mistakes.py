"""Mistakes with several processes: each is told once, by name, with the way out, and nothing goes on."""

import time
from pathlib import Path

import pytest
from cluster import FEW, Starter, assert_all_is_there, assert_ends_well, assert_refused, engine
from conftest import free_port
from serving import answer, serving

from loadgen.clock import MS
from loadgen.version import VERSION


def test_a_port_that_is_taken_is_told(start: Starter) -> None:
    with serving(answer(1)) as server:
        port = server.url.rpartition(":")[2]
        ports = ("--master-bind-port", port, "--master-port", port)
        run = start("--headless", "--host", server.url, "--processes", "2", "--users", "2", *ports)
        assert_refused(run, "--master-bind-port", port)


def test_workers_that_do_not_come_in_time_are_told(start: Starter) -> None:
    with serving(answer(1)) as server:
        waits = ("--expect-workers", "2", "--expect-workers-max-wait", "2")
        run = start.master(free_port(), "--host", server.url, *waits)
        assert_refused(run, "0 of 2 workers", "--expect-workers-max-wait")


def test_a_master_without_a_host_is_told(start: Starter) -> None:
    assert_refused(start.master(free_port(), "--expect-workers", "1"), "--master needs --host")


def test_a_worker_that_cannot_keep_its_records_is_told(start: Starter) -> None:
    port = free_port()
    with serving(answer(1)) as server:
        load = ("--host", server.url, *FEW, "--expect-workers", "1", "--results", "/proc/self/cwd/results")
        run = start.master(port, *load)
        worker = start.worker("one", port, "--results", "/proc/x")
        assert_refused(run, "cannot take part", "--results /proc/x", f"process {worker.process.pid}")
        worker.wait()
    assert "Traceback" not in worker.said


def patched(folder: Path, code: str) -> dict[str, str]:
    """The environment of a process on a host where something is different."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


ANOTHER_VERSION = """
from importlib import metadata
installed = metadata.version
metadata.version = lambda name: "0.0.7" if name == "loadgen" else installed(name)
"""


def test_a_worker_of_another_version_is_told(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with serving(answer(1)) as server:
        run = start.master(port, "--host", server.url, *FEW, "--expect-workers", "1")
        worker = start.worker("one", port, environment=patched(tmp_path / "site", ANOTHER_VERSION))
        assert_refused(run, "0.0.7", VERSION, f"process {worker.process.pid}")
        worker.wait()


def shifted_by(milliseconds: int) -> str:
    return f"import time\nright = time.time_ns\ntime.time_ns = lambda: right() + {milliseconds * MS}\n"


def test_a_worker_whose_wall_clock_is_far_off_is_told(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with serving(answer(1)) as server:
        run = start.master(port, "--host", server.url, *FEW, "--expect-workers", "1")
        worker = start.worker("one", port, environment=patched(tmp_path / "site", shifted_by(-1500)))
        assert_refused(run, "-1.5 s", "wall clock", f"process {worker.process.pid}")
        worker.wait()


def test_a_wall_clock_that_is_a_little_off_is_recorded(start: Starter, tmp_path: Path) -> None:
    port = free_port()
    with engine(tmp_path, ttft_ms=5, itl_ms=1) as server:
        run = start.master(port, "--host", server.host, *FEW, "--expect-workers", "1", "--requests", "8")
        worker = start.worker("one", port, environment=patched(tmp_path / "site", shifted_by(300)))
        assert_ends_well(run)
        assert worker.wait() == 0
    (facts,) = (w for w in run.manifest["workers"] if w["number"] == 1)
    assert facts["wall_offset_ms"] == pytest.approx(300, abs=50)
    assert facts["clock_offset_ns"] == 0  # the monotonic clock is the same
    assert_all_is_there(run)


def test_a_server_that_is_not_there_is_told_once_and_no_forked_worker_stays(start: Starter) -> None:
    began = time.monotonic()
    run = start.forked(f"http://127.0.0.1:{free_port()}", "--users", "2")
    assert_refused(run, "connection refused")
    assert time.monotonic() - began < 60  # Locust's workers would wait for a minute after the start

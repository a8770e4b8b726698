"""A disk that fills up: the run ends with one sentence, whole records, and nothing half-written."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
from conftest import CHAT, Finished, clean_environment, free_port
from serving import answer, serving
from support.locust_process import LOCUST

from loadgen.record import from_line

LIMITED = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = sys.argv[1:]
from locust.main import main
main()
"""
"""Locust, of which no file may grow beyond so many bytes."""

MOUNTED = """
mount -t tmpfs -o size="$1" none results || exit 99
shift
"$@"
status=$?
cp -a results kept
exit $status
"""
"""A command whose results go to a file system of its own of so many bytes; they are copied before it is gone."""

FULL = os.strerror(errno.ENOSPC)
TOO_LARGE = os.strerror(errno.EFBIG)


@cache
def unshare() -> tuple[str, ...] | None:
    """How to mount something that nobody else sees: as root, else as root of a namespace of our own; None if not."""
    for command in (("unshare", "-m"), ("unshare", "-Urm")):
        done = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
        if done.returncode == 0:
            return command
    return None


def filled(folder: Path, size: int, *arguments: str) -> tuple[Finished, str]:
    """Run locust until its disk is full; return what it left, and what a write to such a disk fails with."""
    results = folder / "results"
    results.mkdir()
    arguments = ("-f", str(CHAT), "--headless", "--results", str(results), *arguments)
    mounts = unshare()
    if mounts is None:  # in a container without the right to mount
        command: Sequence[str] = [sys.executable, "-c", LIMITED, str(size // 3), *arguments]
    else:
        command = [*mounts, "sh", "-c", MOUNTED, "sh", str(size), *LOCUST, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False, timeout=100
    )
    if mounts is not None:
        shutil.rmtree(results)
        (folder / "kept").rename(results)
    return Finished(done.returncode, done.stdout, done.stderr, results=results), TOO_LARGE if mounts is None else FULL


def limited(folder: Path, size: int, *arguments: str) -> Finished:
    """Run locust until one of its files is as large as it may be: the report, too, may not be larger."""
    command = [sys.executable, "-c", LIMITED, str(size), "-f", str(CHAT), "--headless", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False, timeout=100
    )
    return Finished(done.returncode, done.stdout, done.stderr, results=folder / "results")


def assert_ended_well(done: Finished, why: str) -> None:
    """The verdict was shown, each cause is told once, and what is on disk is whole."""
    assert done.status in {3, 4}, done.err
    assert "Traceback" not in done.err
    assert any(verdict in done.out for verdict in ("INVALID", "INCONCLUSIVE")), done.out
    assert f"cannot be written ({why})" in done.out
    sentences = [line for line in done.err.splitlines() if line.startswith("loadgen: ")]
    assert len(sentences) <= 1
    assert all(f"exit status {done.status}" in sentence for sentence in sentences)
    assert not list(done.results.rglob("*.part"))
    for path in done.folder.iterdir():
        data = path.read_bytes()
        assert data.endswith(b"\n") or path.suffix in {".html", ".png"} or not data, path
    lines = [line for path in done.folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    assert len({from_line(line).request_id for line in lines}) == len(lines) > 3


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_ends_the_run_with_one_sentence(processes: int, tmp_path: Path) -> None:
    port = str(free_port())
    several = ("--processes", "2", "--master-bind-port", port, "--master-port", port) if processes > 1 else ()
    with serving(answer(3)) as server:
        load = ("--users", "4", "--requests", "1000000", "--max-tokens", "8", "--stop-timeout", "5")
        done, why = filled(tmp_path, 96 << 10, "--host", server.url, *load, *several)
    assert_ended_well(done, why)


def test_a_file_that_may_not_grow_ends_the_run_and_the_next_report_has_all(tmp_path: Path) -> None:
    with serving(answer(3)) as server:
        done = limited(tmp_path, 9000, "--host", server.url, "--requests", "1000000", "--max-tokens", "8")
    assert_ended_well(done, TOO_LARGE)
    again = subprocess.run(
        [sys.executable, "-m", "loadgen.cli", "report", str(done.folder)], capture_output=True, text=True, check=False
    )
    assert again.returncode == done.status, again.stderr
    assert {path.name for path in done.folder.glob("*.jsonl")} == {"records.jsonl"}
    assert (done.folder / "report.html").exists()

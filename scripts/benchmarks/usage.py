"""What a command costs: CPU time, wall time and memory of it and of all that it starts."""

import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

SAMPLE_S = 0.2
TAIL_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Usage:
    """One command that has ended."""

    cpu_s: float
    """User and system time of the process and of all its descendants."""
    wall_s: float
    peak_bytes: int
    """Resident memory summed over the tree, the highest of the samples; pages that processes share count for each."""
    status: int
    """Exit status; negative: the signal that ended it."""
    timed_out: bool
    tail: str
    """The end of what it printed."""


def run(
    command: Sequence[str],
    *,
    core: int | None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float,
) -> Usage:
    """Run it to its end on one core (None: on any); after ``timeout`` seconds it is killed with all its descendants."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*_pinned(core), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        tree = _Tree(process.pid)
        try:
            timed_out = not _gently(tree.watch, began + timeout)
        except BaseException:  # Ctrl-C is ours alone: the command has a session of its own
            process.kill()
            tree.end()
            raise
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        left_s = tree.end()
        return Usage(
            cpu_s=used.ru_utime + used.ru_stime + left_s,
            wall_s=wall_s,
            peak_bytes=tree.peak_bytes,
            status=process.returncode,
            timed_out=timed_out,
            tail=_tail(output),
        )


def _gently(watch: Callable[[float], bool], deadline: float) -> bool:
    """Call it in a thread of the lowest priority: looking at all processes takes ms, on a core that is measured."""

    def lowered() -> bool:
        os.setpriority(os.PRIO_PROCESS, 0, 19)  # on Linux: of this thread alone
        return watch(deadline)

    watcher = ThreadPoolExecutor(1)
    try:
        return watcher.submit(lowered).result()
    finally:
        watcher.shutdown(wait=False)  # at Ctrl-C it watches on until the command has been killed


class _Tree:
    """The processes under one, looked at now and then."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: dict[int, psutil.Process] = {}
        self.peak_bytes = 0

    def watch(self, deadline: float) -> bool:
        """Sample until the root ends; at the deadline end it. False if that was needed."""
        handle = os.pidfd_open(self._root.pid)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            while not ended.poll(SAMPLE_S * 1000):
                self._sample()
                if time.perf_counter() > deadline:
                    self._root.send_signal(signal.SIGKILL)
                    return False
            return True
        finally:
            os.close(handle)

    def end(self) -> float:
        """Kill what outlives the root, and return its CPU time: nobody has waited for it, so rusage lacks it."""
        left_s = 0.0
        for process in self._seen.values():
            try:
                times = process.cpu_times()
                process.kill()  # psutil makes sure that it is still the same one
            except psutil.NoSuchProcess:
                continue
            left_s += times.user + times.system
        return left_s

    def _sample(self) -> None:
        resident = 0
        try:
            for process in (self._root, *self._root.children(recursive=True)):
                if process.pid != self._root.pid:
                    self._seen[process.pid] = process
                resident += _resident(process)
        except psutil.NoSuchProcess:
            return
        self.peak_bytes = max(self.peak_bytes, resident)


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _pinned(core: int | None) -> list[str]:
    if core is None or shutil.which("taskset") is None or core not in os.sched_getaffinity(0):
        return []
    return ["taskset", "-c", str(core)]


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - 4 * TAIL_CHARACTERS))
    return output.read().decode(errors="replace")[-TAIL_CHARACTERS:]

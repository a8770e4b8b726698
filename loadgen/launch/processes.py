"""An engine's processes: started apart from ours, found again by a mark in their environment, and ended to the last."""

import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from loadgen.launch.inheritance import without_secrets

MARK = "LOADGEN_ENGINE"
"""Environment variable that all processes of one start have, whatever they fork; its value is the start's id."""

TERM_S = 10.0
"""So long an engine may take to end by itself."""

KILL_S = 10.0
"""So long the system may take to take away what was killed: GPU drivers do."""


def spawn(
    command: Sequence[str], *, mark: str, variables: Mapping[str, str], folder: Path, log: Path
) -> "subprocess.Popen[bytes]":
    """Start one process in a session of its own, with its output appended to a log.

    Raises OSError where it cannot be executed.
    """
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 the command is what the user asked for
            command,
            cwd=folder,
            env=without_secrets() | dict(variables) | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is for us, who end it
        )


def marked(mark: str, variable: str = MARK) -> list[psutil.Process]:
    """Return the processes of one start, whoever their parent is by now; zombies are none."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(variable) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def listens(mark: str, port: int) -> bool:
    """Whether it is one of these processes that listens at a port, and nobody else."""
    for process in marked(mark):
        with suppress(psutil.Error, OSError):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                    return True
    return False


def end(mark: str, variable: str = MARK, *, politely: bool = True) -> list[int]:
    """End the processes of one start, at first politely; return those that are still there, none if all went well."""
    processes = _with_children(marked(mark, variable))
    if politely:
        _signal(processes, signal.SIGTERM, TERM_S)
    processes = {*_with_children(marked(mark, variable)), *processes}
    _signal([process for process in processes if process.is_running()], signal.SIGKILL, KILL_S)
    return [process.pid for process in marked(mark, variable)]


def _with_children(processes: Sequence[psutil.Process]) -> set[psutil.Process]:
    """Return them and all below them: some children have replaced their environment."""
    found = set(processes)
    for process in processes:
        with suppress(psutil.Error):
            found.update(process.children(recursive=True))
    return found - {psutil.Process()}


def _signal(processes: Collection[psutil.Process], number: signal.Signals, patience_s: float) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)
    psutil.wait_procs(processes, timeout=patience_s)


def is_alive(pid: int, started: float) -> bool:
    """Whether a process is there, and the same one: ids are used again."""
    try:
        process = psutil.Process(pid)
        return bool(abs(_started(process) - started) < 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def this_process() -> tuple[int, float]:
    """Return our id, and when we were started, s."""
    return os.getpid(), _started(psutil.Process())


def _started(process: psutil.Process) -> float:
    """Return when a process was started, s: since boot where the system tells that, as the wall clock may be set."""
    try:
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        return int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float(process.create_time())

"""How long after its last answer a run of 100 requests shows its verdict, has written its report, and ends."""

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures, Section
from benchmarks.machine import environment
from benchmarks.ours import RunError, Setup, command_of
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from loadgen.clock import SECOND
from loadgen.launch.simulated import start_simulated
from loadgen.measure.verdict import Verdict
from loadgen.results import store

REQUESTS, TOKENS = 100, 32
_USERS = (1, 16)
_VERDICTS = tuple(f"{verdict.value}  ".encode() for verdict in Verdict)
"""How the line of the verdict begins, below all figures."""
_LAST_LINE = b"Results: "
"""How the line begins that comes once the report is written."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.set_defaults(rounds=5)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    cases = {f"chat.py, {users} user{'s' * (users > 1)}": partial(_round, users) for users in _USERS}
    found, notes = run_rounds(cases, options.rounds)
    notes.append(
        "From the end of the last answer, by its record, to the line of the verdict on a pipe, and to the last line."
    )
    return Section(f"{REQUESTS} requests of {TOKENS} tokens, TTFT 2 ms, 1 ms a token", found, notes)


def _round(users: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-ending-") as place:
        folder = Path(place)
        server = start_simulated(folder / "truth.jsonl", ttft_ms=2.0, itl_ms=1.0)
        try:
            load = Load(users, requests=REQUESTS, tokens=TOKENS, host=server.host)
            command = command_of(Setup(warmup=5), sys.executable, load, folder / "results")
            shown, written, ended = _watched(command, folder)
        finally:
            server.child.stop()
        (run,) = (folder / "results").iterdir()
        last = int(store.read_folder(run)[1].ints("end_ns").max())
        return {
            "verdict shown after, s": (shown - last) / SECOND,
            "report written after, s": (written - last) / SECOND,
            "process ended after, s": (ended - last) / SECOND,
        }


def _watched(command: list[str], folder: Path) -> tuple[int, int, int]:
    """Run a command; return when verdict and last line came, and when it ended, on the monotonic clock of its run."""
    shown = written = None
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), cwd=folder
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_VERDICTS):
                shown = time.monotonic_ns()
            if line.startswith(_LAST_LINE):
                written = time.monotonic_ns()
    if shown is None or written is None:
        raise RunError(f"our client ended with status {process.returncode} and showed no summary")
    return shown, written, time.monotonic_ns()

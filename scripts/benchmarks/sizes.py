"""The report of a run of growing size: its CPU time and its memory, each in a process of its own."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures, Section
from benchmarks.machine import environment
from benchmarks.options import counts
from benchmarks.ours import RunError
from benchmarks.rounds import run_rounds
from benchmarks.usage import run

CPU, MEMORY, WALL = "CPU-s", "peak memory, MB", "wall time, s"
CPU_LIMIT_S, MEMORY_LIMIT_MB = 60, 1000
"""What the report of 1,000,000 requests may cost, or that of 100,000 streams."""
TOKENS = 500
"""Of each answer that is read token by token."""
LOADS = {"closed": "closed loop", "sweep": "sweep", "open": "open loop"}
STREAMS = {f"{load}, {TOKENS} tokens read one by one": of for of, load in LOADS.items() if of != "open"}
"""An open loop's gaps are summarised as those of a closed loop are."""

_TIMEOUT_S = 1800.0
_USABLE = {0, 3, 4}
_REPORT = """
import sys, time
from pathlib import Path
from loadgen.cli import main
status = main(["report", sys.argv[1]])
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
Path(sys.argv[2]).write_text(f'{{"cpu_s": {time.process_time()}, "peak_kb": {peak.split()[1]}}}')
sys.exit(status)
"""
"""The peak is that of the program alone: what rusage has of a child includes the process that started it."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument(
        "--records", type=counts, default="10000,100000,300000,1000000", help="sizes of runs without times of tokens"
    )
    parser.add_argument("--streams", type=counts, default="1000,10000,100000", help=f"of runs of {TOKENS} tokens each")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Make each folder, report on it, and remove it."""
    cases: dict[str, Callable[[], Figures]] = {}
    for load, name in LOADS.items():
        cases[name] = partial(_sizes, load, _numbers(options.records), 0)
    for name, load in STREAMS.items():
        cases[name] = partial(_sizes, load, _numbers(options.streams), TOKENS)
    found, notes = run_rounds(cases, options.rounds)
    notes.append("Made folders: 256 users, steps of 1 to 1,024 users, 200 requests/s; see benchmarks/made_runs.py.")
    return Section("loadgen report on runs of growing size, each in a fresh process", found, notes)


def figure(records: int, what: str) -> str:
    """Return the name of a figure of a size."""
    return f"{records:,} requests: {what}"


def _numbers(text: str) -> Sequence[int]:
    return [int(part) for part in text.split(",")]


def _sizes(load: str, sizes: Sequence[int], tokens: int) -> Figures:
    found: dict[str, float] = {}
    for records in sizes:
        found |= {figure(records, what): value for what, value in _one(load, records, tokens).items()}
    return found


def _one(load: str, records: int, tokens: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-sizes-") as place:
        folder, measured = Path(place) / "run", Path(place) / "measured.json"
        _done([sys.executable, "-m", "benchmarks.made_runs", str(folder), load, str(records), str(tokens)], {0})
        wall_s = _done([sys.executable, "-c", _REPORT, str(folder), str(measured)], _USABLE)
        used = json.loads(measured.read_text())
    return {CPU: used["cpu_s"], MEMORY: used["peak_kb"] / 1024, WALL: wall_s}


def _done(command: Sequence[str], usable: set[int]) -> float:
    """Run a command; return how long it took."""
    paths = {"PYTHONPATH": str(Path(__file__).parents[1])}
    usage = run(command, core=None, env=environment() | paths, timeout=_TIMEOUT_S)
    if usage.timed_out or usage.status not in usable:
        raise RunError(f"{' '.join(command[1:4])} ended with status {usage.status}: {usage.tail}")
    return usage.wall_s

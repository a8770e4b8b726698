"""How exact this client is, and what a token costs it.

A run of chat.py against the truth server, each pinned to a core of its own. Errors are what the records say minus what
the server's log says. The cost is the slope of CPU time between two run lengths, so that start-up is out.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from loadgen.launch.simulated import SimulatedServer, Truth, start_simulated
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results import store

CHAT = Path(__file__).parents[1] / "locustfiles" / "chat.py"
MS = 1_000_000


@dataclass(frozen=True)
class Measured:
    """One run, its figures in ms, CPU-seconds and requests."""

    ttft_errors: list[float]
    itl_errors: list[float]
    tpot_errors: list[float]
    outside: int
    """First tokens, last tokens and ends that lie outside their intervals by more than the way through the kernel."""
    intervals: list[float]
    cpu_seconds: float
    tokens: int
    per_minute: float
    lazy: int
    completed: int


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--streams", default="64,256", help="numbers of concurrent streams")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are printed, with the range")
    parser.add_argument("--itl-sample", default="auto", help="as chat.py has it")
    parser.add_argument("--ttft-ms", type=float, default=50)
    parser.add_argument("--itl-ms", type=float, default=10)
    options = parser.parse_args()
    table = Table(title=f"{_machine()}; {options.tokens} tokens, --itl-sample {options.itl_sample}")
    for column in (
        "streams",
        "TTFT error p50, ms",
        "p99",
        "ITL error p99, ms",
        "TPOT error p99, ms",
        "interval p99, ms",
        "outside",
        "requests/min, % of ideal",
        "CPU-s per M tokens",
        "lazy",
    ):
        table.add_column(column, justify="right")
    for streams in map(int, options.streams.split(",")):
        rounds = [_round(streams, options) for _ in range(options.rounds)]
        table.add_row(str(streams), *(_spread(list(values)) for values in zip(*rounds, strict=True)))
    Console(width=180).print(table)
    return 0


def _round(streams: int, options: argparse.Namespace) -> list[float]:
    long = _run(streams, streams * 12, options)
    short = _run(streams, streams * 4, options)
    answer_s = (options.ttft_ms + options.itl_ms * (options.tokens - 1)) / 1000
    ideal = 60 * streams / answer_s
    slope = (long.cpu_seconds - short.cpu_seconds) / (long.tokens - short.tokens) * 1e6
    return [
        _percentile(long.ttft_errors, 0.5),
        _percentile(long.ttft_errors, 0.99),
        _percentile(long.itl_errors, 0.99),
        _percentile(long.tpot_errors, 0.99),
        _percentile(long.intervals, 0.99),
        long.outside,
        100 * long.per_minute / ideal,
        slope,
        long.lazy / long.completed,
    ]


def _run(streams: int, requests: int, options: argparse.Namespace) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        server = start_simulated(Path(folder) / "truth.jsonl", ttft_ms=options.ttft_ms, itl_ms=options.itl_ms)
        _pin(server.child.pid, 1)
        command = [sys.executable, "-m", "locust", "-f", str(CHAT), "--headless", "--loglevel", "ERROR"]
        command += ["--host", server.host, "--users", str(streams), "--requests", str(requests)]
        command += ["--warmup", str(min(streams, 100))]
        command += ["--sample", "50", "--max-tokens", str(options.tokens), "--results", folder]
        command += ["--itl-sample", options.itl_sample]
        if shutil.which("taskset"):
            command = ["taskset", "-c", "0", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            if done.returncode not in {0, 3}:
                sys.exit(done.stderr)
            return _compare(server, Path(folder), streams)
        finally:
            server.child.stop()


def _compare(server: SimulatedServer, folder: Path, streams: int) -> Measured:
    (run,) = [path for path in folder.iterdir() if path.is_dir()]
    _, records = store.read(run)
    summary = msgspec.json.decode((run / "summary.json").read_bytes())
    truths = server.truths()
    ok = [r for r in records if r.phase is Phase.MEASURE and r.outcome is Outcome.OK]
    pairs = [(r, truths[r.request_id]) for r in ok]
    per_minute = summary["throughput"]["requests_per_minute"] if streams > 1 else None
    return Measured(
        ttft_errors=[((r.first_token_ns or 0) - t.chunk_ns[0]) / MS for r, t in pairs],
        itl_errors=[error for r, t in pairs for error in _gap_errors(r, t)],
        tpot_errors=[abs(_span(r) - (t.chunk_ns[-1] - t.chunk_ns[0])) / (len(t.chunk_ns) - 1) / MS for r, t in pairs],
        outside=sum(_outside(r, t) for r, t in pairs),
        intervals=[(r.last_token_interval_ns or 0) / MS for r, _ in pairs],
        cpu_seconds=summary["instrument"]["cpu_seconds"],
        tokens=summary["tokens"]["output"],
        per_minute=per_minute["value"] if per_minute and per_minute["value"] else float("nan"),
        lazy=sum(r.lazy for r in ok),
        completed=len(ok),
    )


def _gap_errors(r: RequestRecord, t: Truth) -> list[float]:
    if r.chunk_ns is None:
        return []
    ours, true = pairwise(r.chunk_ns), pairwise(t.chunk_ns)
    return [abs((b - a) - (d - c)) / MS for (a, b), (c, d) in zip(ours, true, strict=True)]


def _span(r: RequestRecord) -> int:
    return (r.last_token_ns or 0) - (r.first_token_ns or 0)


def _outside(r: RequestRecord, t: Truth) -> int:
    slack = MS // 2  # the way through the kernel, and a server that was stopped between its note and its send
    known = (
        (r.first_token_ns, r.first_token_interval_ns, t.chunk_ns[0]),
        (r.last_token_ns, r.last_token_interval_ns, t.chunk_ns[-1]),
        (r.end_ns, r.end_interval_ns, t.end_ns),
    )
    return sum(not (at or 0) - (width or 0) - slack <= (true or 0) <= (at or 0) + slack for at, width, true in known)


def _percentile(values: list[float], quantile: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] if ordered else float("nan")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _pin(pid: int, core: int) -> None:
    if (os.cpu_count() or 1) > core:
        os.sched_setaffinity(pid, {core})


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())

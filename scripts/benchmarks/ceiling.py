"""What the truth server itself can send, to the cheapest reader there is: beyond it nothing here says anything."""

import argparse
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec
import psutil

from benchmarks import server
from benchmarks.figures import Figures, Section, spread
from benchmarks.machine import CLIENT_CORE, pin_server
from benchmarks.ours import RunError
from benchmarks.peers.arithmetic import held_of
from benchmarks.peers.peer import Load
from benchmarks.rounds import run_rounds
from benchmarks.usage import run
from loadgen.clock import SECOND
from loadgen.engines.simulated.script import Script
from loadgen.launch.simulated import start_simulated
from loadgen.measure.truth import Truth

_READER = Path(__file__).with_name("reader.py")
_TIMEOUT_S = 300.0
_CASES = {
    "unpaced, 64 streams": (Load(64, requests=64 * 40, spread_s=0.0), Script(ttft_ms=0.0, itl_ms=0.0)),
    "1,024 streams, 10 ms apart": (Load(1024, requests=1024 * 6), Script()),
    "10,000 streams, 100 ms apart": (
        Load(10_000, requests=10_000, tokens=60, spread_s=5.0),
        Script(ttft_ms=5000.0, itl_ms=100.0),
    ),
}


def add_options(_parser: argparse.ArgumentParser) -> None:
    """There is nothing to vary."""


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    found, notes = run_rounds({name: partial(_round, *case) for name, case in _CASES.items()}, options.rounds)
    notes.append("Late: send by the log minus send by the script. Unpaced, all is due at once and nothing is late.")
    return Section("The server alone; its reader waits, receives and throws away", found, notes)


def _round(load: Load, script: Script) -> Figures:
    truths, server_s, reader_s = _run(load, script)
    seconds = Counter(at // SECOND for t in truths for at in t.sent_ns)
    span_s = (max(t.sent_ns[-1] for t in truths) - min(t.received_ns for t in truths)) / SECOND
    paced = script.itl_ms > 0
    return {
        "sends in the busiest second": max(seconds.values()),
        "sends per CPU-second of the server": seconds.total() / server_s,
        "server CPU, % of its core": 100 * server_s / span_s,
        "reader CPU, % of its core": 100 * reader_s / span_s,
        **(spread("late by", server.lateness_ms(truths, script)) if paced else {}),
        "held at once": held_of(truths),
    }


def _run(load: Load, script: Script) -> tuple[list[Truth], float, float]:
    """Return the log, and the CPU-seconds of server and reader."""
    with tempfile.TemporaryDirectory(prefix="bench-ceiling-") as folder:
        simulated = start_simulated(Path(folder) / "truth.jsonl", ttft_ms=script.ttft_ms, itl_ms=script.itl_ms)
        try:
            pin_server(simulated.child.pid)
            process = psutil.Process(simulated.child.pid)
            before = process.cpu_times()
            used = run(_command(simulated.host, load), core=CLIENT_CORE, timeout=_TIMEOUT_S)
            after = process.cpu_times()
        finally:
            simulated.child.stop()
        if used.status != 0:
            raise RunError(f"the reader ended with status {used.status}: {used.tail}")
        lines = simulated.log.read_bytes().splitlines()
        server_s = after.user + after.system - before.user - before.system
        return [msgspec.json.decode(line, type=Truth) for line in lines], server_s, used.cpu_s


def _command(host: str, load: Load) -> list[str]:
    given = {
        "--host": host,
        "--streams": load.streams,
        "--each": load.requests // load.streams,
        "--tokens": load.tokens,
        "--spread": load.spread_s,
    }
    return [sys.executable, str(_READER), *(str(part) for pair in given.items() for part in pair)]

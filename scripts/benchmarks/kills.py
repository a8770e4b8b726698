"""Whether a kill -9 loses a request, or leaves anything of the run: whichever of its processes is killed, and when."""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil

from benchmarks.figures import Figures, Section
from benchmarks.machine import ROOT, environment, free_port
from benchmarks.ours import RunError
from benchmarks.rounds import run_rounds
from loadgen.clock import MS, SECOND, now
from loadgen.launch.simulated import SimulatedServer, start_simulated
from loadgen.results import store

Victim = Literal["worker", "master", "all workers", "exporter", "engine"]

_KILLS_OF_TEN: Mapping[Victim, int] = {"worker": 3, "master": 2, "all workers": 2, "exporter": 2, "engine": 1}
_OF_TEN = tuple(victim for victim, kills in _KILLS_OF_TEN.items() for _ in range(kills))
"""Victims of ten kills, in an order that the seed says; the embedded engine takes longest to start."""

WORKERS = 2
UNKNOWN_NS = 100 * MS
"""An end so shortly before the kill may not have reached the client yet."""

ORPHANS_S = 20.0
"""Workers have so long to end by themselves when their master is gone."""

_STATUS = {"VALID": 0, "WARN": 0, "INVALID": 3, "INCONCLUSIVE": 4}
_STARTS_S = 60.0
_ENDS_S = 60.0
_LATEST_S = 1.5
"""The kill comes so long after the first measured request at the latest."""

_LOAD = ("--users", "8", "--sample", "50", "--warmup", "2", "--max-tokens", "16")
_ENDLESS = ("--requests", "1000000")
_UNTIL: Mapping[Victim, Sequence[str]] = {"exporter": ("--requests", "500"), "engine": ("--run-time", "6s")}
"""What ends a run that goes on without the victim."""

_MARK = "BENCH_KILLS"
"""Variable in the environment of all processes of a run, by which they are found."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, and what was left of the run."""

    victim: Victim
    pids: Sequence[int]
    after_s: float
    """Since the first measured request had ended."""
    ended_before: int
    """Requests whose end the server logged more than 0.1 s before the kill; at any time where workers outlive it, and
    end in order. 0 for the embedded engine, which has no such log."""
    missing: Sequence[str]
    """Those of them that are in no record."""
    status: int
    """Exit status of the run, or of ``loadgen report`` where the master was killed."""
    verdict: str
    checks: Mapping[str, Mapping[str, Any]]
    """Of the verdict, by name."""
    left: Sequence[str]
    """Processes, ports and temporary files that were left of the run."""
    gone_s: float
    """From the kill until no process of the run was left."""

    @property
    def faults(self) -> list[str]:
        """Whatever is not as it has to be."""
        found = list(self.left)
        if self.missing:
            found.append(f"{len(self.missing)} requests are missing, as {self.missing[0]}")
        if self.status != _STATUS[self.verdict]:
            found.append(f"exit status {self.status} with verdict {self.verdict}")
        return found + [f"{name}: {self._said(name)}" for name, said in self._expected() if not self._says(name, said)]

    def _expected(self) -> list[tuple[str, str]]:
        """Return the checks that have to tell of the kill, each with what it has to say."""
        if self.victim in {"worker", "all workers"}:
            return [("workers", f"process {pid}: it was killed by SIGKILL") for pid in self.pids]
        if self.victim == "master":
            return [("run complete", "cut short")]
        ended = "ended by --run-time" if self.victim == "engine" else "ended by itself"
        return [("run complete", ended), ("workers", f"{WORKERS} processes")] + (
            [("failures", " refused")] if self.victim == "engine" else [("failures", "0")]
        )

    def _says(self, name: str, text: str) -> bool:
        return text in self._said(name)

    def _said(self, name: str) -> str:
        return str(self.checks[name]["value"])

    @property
    def text(self) -> str:
        """A line of a table."""
        return (
            f"{self.victim} {', '.join(map(str, self.pids))}, killed after {self.after_s:.2f} s: {self.ended_before} "
            f"requests ended before, {len(self.missing)} missing; {self.verdict}, exit status {self.status}; all gone "
            f"{self.gone_s:.1f} s later{''.join('; FAULT: ' + fault for fault in self.faults)}"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--kills", type=int, default=100, help="of processes of all kinds together")
    parser.add_argument("--seed", type=int, default=1, help="of whom is killed, and when")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    lines: list[str] = []
    cases = {
        f"kills: {victim}": partial(_kills, victim, number, random.Random(f"{options.seed} {victim}"), lines)
        for victim, number in victims(options.kills, options.seed).items()
    }
    measured, failures = run_rounds(cases, options.rounds)
    return Section(f"kill -9 during chat.py --processes {WORKERS} --users 8", measured, [*failures, *lines])


def victims(kills: int, seed: int) -> Counter[Victim]:
    """Return how many processes of each kind are killed."""
    rng = random.Random(seed)
    drawn = [victim for _ in range(-(-kills // len(_OF_TEN))) for victim in rng.sample(_OF_TEN, len(_OF_TEN))]
    return Counter(drawn[:kills])


def _kills(victim: Victim, number: int, rng: random.Random, lines: list[str]) -> Figures:
    found: list[Kill] = []
    for _ in range(number):
        with tempfile.TemporaryDirectory(prefix="bench-kills-") as folder:
            found.append(kill_one(Path(folder), victim, rng))
        print(found[-1].text, file=sys.stderr, flush=True)
    lines += [kill.text for kill in found]
    if faulty := sum(bool(kill.faults) for kill in found):
        raise RunError(f"{faulty} of {number} kills are not as they have to be")
    return {
        "kills": number,
        "requests ended more than 0.1 s before": sum(kill.ended_before for kill in found),
        "of these missing": sum(len(kill.missing) for kill in found),
        "until all processes are gone, at most, s": max(kill.gone_s for kill in found),
    }


def kill_one(folder: Path, victim: Victim, rng: random.Random) -> Kill:
    """Make a run, kill a process of it at a random moment, and look at what is left; raises RunError."""
    server = start_simulated(folder / "truth.jsonl", ttft_ms=8, itl_ms=1)
    (folder / "tmp").mkdir()
    mark = f"{os.getpid()}-{rng.getrandbits(64)}"
    with (folder / "locust.log").open("wb") as log:
        started = subprocess.Popen(
            _command(None if victim == "engine" else server.host, folder / "results", _UNTIL.get(victim, _ENDLESS)),
            cwd=folder,
            env=environment() | {"TMPDIR": str(folder / "tmp"), _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for us
        )
    try:
        return _killed(_Run(started, mark, folder), server, victim, rng)
    except subprocess.TimeoutExpired as late:
        raise RunError(f"the run did not end: {late}: {_tail(folder)}") from None
    finally:
        for process in _marked(mark):
            process.kill()
        started.wait()
        server.child.stop()


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that goes on."""

    process: "subprocess.Popen[bytes]"
    mark: str
    """In the environment of all of its processes."""
    folder: Path
    """Where it was started."""


def _killed(started: _Run, server: SimulatedServer, victim: Victim, rng: random.Random) -> Kill:
    mark, folder, master = started.mark, started.folder, started.process
    run = _run_folder(master, folder)
    after_s = rng.uniform(0.0, _LATEST_S)
    time.sleep(after_s)
    ports = _ports(_marked(mark))
    pids = _chosen(victim, master.pid, rng)
    at = now()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    status = master.wait(_ENDS_S)
    while _marked(mark) and now() - at < _ENDS_S * SECOND:
        time.sleep(0.05)
    gone_s = (now() - at) / SECOND
    left = [f"{' '.join(p.cmdline())} runs" for p in _marked(mark)]
    if victim == "master":
        status = report(run).returncode
    server.child.stop()  # writes what it has not logged yet
    ended = ended_before(server, run.name, at if victim in {"worker", "all workers"} else now())
    recorded = {record.request_id for record in store.read_folder(run)[1]}
    verdict = msgspec.json.decode((run / "summary.json").read_bytes())["verdict"]
    return Kill(
        victim=victim,
        pids=pids,
        after_s=after_s,
        ended_before=len(ended),
        missing=sorted(ended - recorded),
        status=status,
        verdict=verdict["status"].upper(),
        checks={check["name"]: check for check in verdict["checks"]},
        left=[*left, *_taken(ports), *_temporary(folder)],
        gone_s=gone_s,
    )


def _chosen(victim: Victim, master: int, rng: random.Random) -> list[int]:
    """Return the processes to be killed."""
    if victim == "master":
        return [master]
    if victim in {"worker", "all workers"}:
        workers = workers_of(master)
        return workers if victim == "all workers" else [rng.choice(workers)]
    module = {"exporter": "loadgen.exporter", "engine": "loadgen.launch.llamacpp_server"}[victim]
    return [child.pid for child in psutil.Process(master).children() if module in child.cmdline()]


def _marked(mark: str) -> list[psutil.Process]:
    """Return the processes of a run that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _ports(processes: Sequence[psutil.Process]) -> set[int]:
    """Return the ports at which processes listen."""
    connections = [c for process in processes for c in process.net_connections("tcp")]
    return {c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN}


def _taken(ports: set[int]) -> list[str]:
    """Return those of the ports at which somebody still listens, in words."""
    found = []
    for port in sorted(ports):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                found.append(f"somebody listens at port {port}")
    return found


def _temporary(folder: Path) -> list[str]:
    """Return the temporary files that were left, in words."""
    results = folder / "results"
    found = [*(folder / "tmp").rglob("*"), *results.rglob("*.part"), *results.glob(".loadgen-*")]
    return [f"{path.relative_to(folder)} is left" for path in found]


def ended_before(server: SimulatedServer, run_id: str, at: int) -> set[str]:
    """Return the requests of a run whose end the server logged more than 0.1 s before a moment."""
    truths = server.truths().values()
    of_run = (truth for truth in truths if truth.request_id.startswith(run_id))
    return {truth.request_id for truth in of_run if truth.end_ns is not None and truth.end_ns < at - UNKNOWN_NS}


def report(run: Path) -> "subprocess.CompletedProcess[str]":
    """Have ``loadgen report`` put together what there is."""
    return subprocess.run(
        [sys.executable, "-m", "loadgen.cli", "report", str(run)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def workers_of(master: int) -> list[int]:
    """Return the workers that a master has forked."""
    return sorted(child.pid for child in psutil.Process(master).children() if "locust" in child.cmdline())


def group(leader: int) -> list[int]:
    """Return the processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue
    return found


def end_group(leader: int) -> None:
    """End what is left of a group that we started."""
    for pid in group(leader):
        os.kill(pid, signal.SIGKILL)


def _run_folder(started: "subprocess.Popen[bytes]", folder: Path) -> Path:
    """Wait until all workers have recorded a measured request, and return the run's folder; raises RunError."""
    due = time.monotonic() + _STARTS_S
    while time.monotonic() < due and started.poll() is None:
        files = [path for path in (folder / "results").glob("*/records-*.jsonl") if path.stat().st_size]
        if len(files) == WORKERS and all(b'"phase":"measure"' in path.read_bytes() for path in files):
            return files[0].parent
        time.sleep(0.02)
    raise RunError(f"the run did not begin: {_tail(folder)}")


def _tail(folder: Path) -> str:
    return (folder / "locust.log").read_text(errors="replace")[-1500:]


def _command(host: str | None, results: Path, until: Sequence[str]) -> list[str]:
    """Return the command of a run; without a host it is of the embedded engine."""
    base = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "chat.py"), "--headless"]
    port = str(free_port())
    where = ["--results", str(results), "--master-bind-port", port, "--master-port", port, "--metrics", "127.0.0.1:0"]
    target = [] if host is None else ["--host", host]
    return [*base, *_LOAD, *until, *target, *where, "--processes", str(WORKERS), "--stop-timeout", "5"]

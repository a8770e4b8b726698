"""Whether a kill -9 loses a request: each that the server ended 0.1 s before it must be in the records."""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
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

Victim = Literal["worker", "master"]

WORKERS = 2
UNKNOWN_NS = 100 * MS
"""An end so shortly before the kill may not have reached the client yet."""

ORPHANS_S = 20.0
"""Workers have so long to end by themselves when their master is gone."""

_INVALID, _INCONCLUSIVE = 3, 4
_STARTS_S = 60.0
_ENDS_S = 60.0
_LOAD = ("--users", "8", "--sample", "50", "--warmup", "2", "--max-tokens", "16", "--requests", "1000000")


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill, and what was left of the run."""

    victim: Victim
    pid: int
    after_s: float
    """Since the first measured request had ended."""
    ended_before: int
    """Requests whose end the server logged more than 0.1 s before the kill; at any time where the master was killed, as
    its workers end in order."""
    missing: Sequence[str]
    """Those of them that are in no record."""
    status: int
    """Exit status of the run, or of ``loadgen report`` where the master was killed."""
    verdict: str
    lost: Sequence[str]
    """What the verdict says of processes that are gone."""
    gone_s: float
    """From the kill until no process of the run was left."""

    @property
    def faults(self) -> list[str]:
        """Whatever is not as it has to be."""
        found = []
        if self.missing:
            found.append(f"{len(self.missing)} requests are missing, as {self.missing[0]}")
        if self.victim == "worker":
            if self.verdict != "INVALID" or self.status != _INVALID:
                found.append(f"verdict {self.verdict}, exit status {self.status}")
            if not any(f"process {self.pid}" in text for text in self.lost):
                found.append(f"process {self.pid} is not named as lost")
        elif self.verdict != "INCONCLUSIVE" or self.status != _INCONCLUSIVE:
            found.append(f"verdict {self.verdict}, exit status {self.status}")
        return found

    @property
    def text(self) -> str:
        """A line of a table."""
        return (
            f"{self.victim} {self.pid}, killed after {self.after_s:.2f} s: {self.ended_before} requests ended before, "
            f"{len(self.missing)} missing; {self.verdict}, exit status {self.status}; all gone {self.gone_s:.1f} s "
            f"later{''.join('; FAULT: ' + fault for fault in self.faults)}"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--kills", type=int, default=20, help="of a worker")
    parser.add_argument("--masters", type=int, default=5, help="kills of the master")
    parser.add_argument("--seed", type=int, default=1, help="of whom is killed, and when")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    lines: list[str] = []
    victims: dict[Victim, int] = {"worker": options.kills, "master": options.masters}
    cases = {
        f"kills of {'a worker' if victim == 'worker' else 'the master'}": partial(
            _kills, victim, number, random.Random(options.seed), lines
        )
        for victim, number in victims.items()
        if number
    }
    measured, failures = run_rounds(cases, options.rounds)
    return Section(f"kill -9 during chat.py --processes {WORKERS} --users 8", measured, [*failures, *lines])


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
    log = (folder / "locust.log").open("wb")
    started = subprocess.Popen(
        _command(server.host, folder / "results"),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # all processes of the run are one group, which can be looked for
    )
    log.close()
    try:
        return _killed(started, server, folder, victim, rng)
    except subprocess.TimeoutExpired as late:
        raise RunError(f"the run did not end: {late}: {_tail(folder)}") from None
    finally:
        end_group(started.pid)
        started.wait()
        server.child.stop()


def _killed(
    started: "subprocess.Popen[bytes]", server: SimulatedServer, folder: Path, victim: Victim, rng: random.Random
) -> Kill:
    run = _run_folder(started, folder)
    after_s = rng.uniform(0.0, 3.0)
    time.sleep(after_s)
    workers = workers_of(started.pid)
    pid = rng.choice(workers) if victim == "worker" else started.pid
    at = now()
    os.kill(pid, signal.SIGKILL)
    status = started.wait(_ENDS_S)
    while group(started.pid):
        if now() - at > _ENDS_S * SECOND:
            raise RunError(f"processes {group(started.pid)} do not end: {_tail(folder)}")
        time.sleep(0.1)
    gone_s = (now() - at) / SECOND
    if victim == "master":
        status = report(run).returncode
    server.child.stop()  # writes what it has not logged yet
    ended = ended_before(server, run.name, at if victim == "worker" else now())
    recorded = {record.request_id for record in store.read(run)[1]}
    verdict = msgspec.json.decode((run / "summary.json").read_bytes())["verdict"]
    return Kill(
        victim,
        pid,
        after_s,
        len(ended),
        sorted(ended - recorded),
        status,
        verdict["status"].upper(),
        lost_of(verdict),
        gone_s,
    )


def ended_before(server: SimulatedServer, run_id: str, at: int) -> set[str]:
    """Return the requests of a run whose end the server logged more than 0.1 s before a moment."""
    truths = server.truths().values()
    of_run = (truth for truth in truths if truth.request_id.startswith(run_id))
    return {truth.request_id for truth in of_run if truth.end_ns is not None and truth.end_ns < at - UNKNOWN_NS}


def lost_of(verdict: Mapping[str, Any]) -> list[str]:
    """Return what a verdict says of workers that were lost."""
    return [check["value"] for check in verdict["checks"] if check["name"] == "workers" and "lost: " in check["value"]]


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
    """Return the processes that a master has forked."""
    return sorted(child.pid for child in psutil.Process(master).children())


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
    """Wait until all workers have recorded something, and return the run's folder; raises RunError."""
    due = time.monotonic() + _STARTS_S
    while time.monotonic() < due and started.poll() is None:
        files = [path for path in (folder / "results").glob("*/records-*.jsonl") if path.stat().st_size]
        if len(files) == 1 + WORKERS:
            return files[0].parent
        time.sleep(0.02)
    raise RunError(f"the run did not begin: {_tail(folder)}")


def _tail(folder: Path) -> str:
    return (folder / "locust.log").read_text(errors="replace")[-1500:]


def _command(host: str, results: Path) -> list[str]:
    base = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "chat.py"), "--headless"]
    port = str(free_port())
    where = ["--host", host, "--results", str(results), "--master-bind-port", port, "--master-port", port]
    return [*base, *_LOAD, *where, "--processes", str(WORKERS), "--stop-timeout", "5"]

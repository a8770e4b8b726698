"""Locust as a run of several processes: started, waited for, and looked at when it has ended."""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import CHAT, ROOT, Left, assert_ended_well, clean_environment, free_port, records_of
from support.locust_process import LOCUST, popen

from loadgen.launch.simulated import SimulatedServer, start_simulated
from loadgen.record import Phase, RequestRecord

sys.path.insert(0, str(ROOT / "scripts"))
from benchmarks import kills

FEW = ("--sample", "20", "--warmup", "2", "--max-tokens", "8")


@dataclass
class Started(Left):
    """A locust process, and those that it forks: one group."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait(self, timeout: float = 300.0) -> int:
        """Wait for its end, and see that nothing of it is left."""
        status = self.process.wait(timeout)
        due = time.monotonic() + 60
        while (left := kills.group(self.process.pid)) and time.monotonic() < due:
            time.sleep(0.1)
        assert not left, self.said
        return status

    def when_measuring(self, processes: int = 2) -> None:
        """Wait until every process that makes requests has the record of a measured one."""
        due = time.monotonic() + 300
        measures = b'"phase":"measure"'
        while sum(measures in p.read_bytes() for p in self.results.glob("*/records-[1-9]*.jsonl")) < processes:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < due, self.said
            time.sleep(0.05)


@dataclass
class Starter:
    """Starts locust, each in a folder of its own."""

    parent: Path
    started: list[Started] = field(default_factory=list)

    def __call__(
        self,
        *arguments: str,
        name: str = "master",
        locustfile: Path = CHAT,
        program: Sequence[str] = LOCUST,
        environment: dict[str, str] | None = None,
    ) -> Started:
        cwd = self.parent / name
        cwd.mkdir()
        results = [] if "--results" in arguments else ["--results", str(cwd / "results")]
        with (cwd / "locust.log").open("wb") as log:
            process = popen(
                [*program, "-f", str(locustfile), *arguments, *results],
                cwd=cwd,
                env=clean_environment(**(environment or {})),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(Started(results=cwd / "results", process=process, log=cwd / "locust.log"))
        return self.started[-1]

    def end(self) -> None:
        """Kill what is left of all."""
        for started in self.started:
            kills.end_group(started.process.pid)
            started.process.wait()

    def forked(self, host: str, *arguments: str, **more: Any) -> Started:
        """Start a run of two forked processes."""
        free = str(free_port())
        port = ("--master-bind-port", free, "--master-port", free)
        return self("--headless", "--host", host, "--processes", "2", *port, *arguments, **more)

    def master(self, port: int, *arguments: str, environment: dict[str, str] | None = None) -> Started:
        bound = ("--master-bind-host", "127.0.0.1", "--master-bind-port", str(port))
        return self("--headless", "--master", *bound, *arguments, environment=environment)

    def worker(self, name: str, port: int, *arguments: str, environment: dict[str, str] | None = None) -> Started:
        joins = ("--worker", "--master-host", "127.0.0.1", "--master-port", str(port))
        return self(*joins, *arguments, name=name, environment=environment)


@contextmanager
def engine(folder: Path, **options: float) -> Iterator[SimulatedServer]:
    server = start_simulated(folder / "truth.jsonl", **options)
    try:
        yield server
    finally:
        server.child.stop()


def assert_all_is_there(run: Started) -> list[RequestRecord]:
    """The counts add up, over all processes; every request has one record, and all are in one file."""
    counted = run.summary["requests"]
    assert counted["started"] == sum(counted[part] for part in ("completed", "failed", "aborted", "dropped"))
    accounted = run.checks["every request accounted for"]["status"].upper()
    some_lost = any(w["lost"] for w in run.manifest["workers"])
    assert accounted == ("NOT CHECKED" if some_lost else "OK")
    assert [path.name for path in run.folder.glob("*.jsonl")] == ["records.jsonl"]
    lines = (run.folder / "records.jsonl").read_bytes().splitlines()
    records = records_of(run.folder)
    assert len(lines) == len(records)
    started = run.manifest["ended"]["started_requests"]
    assert started <= len(records) if some_lost else started == len(records)  # a lost worker has not said its last
    return [r for r in records if r.phase is Phase.MEASURE]


def assert_ends_well(run: Started) -> None:
    assert_ended_well(run.results, run.wait(), run.said)


def assert_shards_are_disjoint(records: Sequence[RequestRecord]) -> None:
    """Within a round no prompt comes twice, whichever process asks it."""
    rounds: dict[int, list[int]] = defaultdict(list)
    for r in records:
        rounds[r.round].append(r.prompt_row)
    assert all(len(rows) == len(set(rows)) for rows in rounds.values())


def assert_refused(run: Started, *words: str, status: int = 2) -> None:
    assert run.wait() == status, run.said
    told = [line for line in run.said.splitlines() if line.startswith("loadgen: ")]
    assert len(told) == 1, run.said
    assert all(word in told[0] for word in words), told
    assert "Traceback" not in run.said

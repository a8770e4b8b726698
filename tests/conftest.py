"""What the tests share."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from support.locust_process import LOCUST, popen, run_to_end

from loadgen.clock import MS
from loadgen.measure.limits import LOOP_LAG_LIMIT_MS
from loadgen.record import Phase, RequestRecord, from_line

if TYPE_CHECKING:
    from cluster import Starter
    from launching import Home

# A result depends neither on how fast this machine is nor on chance: no deadlines, and the same examples each time.
settings.register_profile(
    "loadgen", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("loadgen")

# What is ignored here stays ignored in all that is started: SIGINT where a script runs the tests in the background,
# SIGHUP by nohup.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# numpy has a thread for each core spin for 0.1 s at the start of each process; PyTorch does so throughout an answer, so
# that one of a tiny model costs five times its work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
FIGURE = "figure"
"""A property of a test, by ``record_property``, that is printed at the end."""
CHAT = ROOT / "locustfiles" / "chat.py"


BUSY = {"client lag", "times known exactly", "Little's law"}
"""What is not ok where the machine has other things to do, as it has when tests run."""


@dataclass(kw_only=True)
class Left:
    """What a locust process leaves in a results folder: one run."""

    results: Path

    @property
    def folder(self) -> Path:
        """The one run's folder."""
        (folder,) = self.results.iterdir()
        return folder

    @property
    def summary(self) -> dict[str, Any]:
        """Its summary."""
        summary: dict[str, Any] = msgspec.json.decode((self.folder / "summary.json").read_bytes())
        return summary

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """The checks of its verdict, by name."""
        return {check["name"]: check for check in self.summary["verdict"]["checks"]}

    @property
    def manifest(self) -> dict[str, Any]:
        """Its manifest."""
        manifest: dict[str, Any] = msgspec.json.decode((self.folder / "run.json").read_bytes())
        return manifest

    @property
    def records(self) -> list[RequestRecord]:
        """Its records."""
        return records_of(self.folder)


@dataclass
class Finished(Left):
    """A locust process that has ended, and the run it left."""

    status: int
    out: str
    err: str

    def assert_ended_well(self) -> None:
        """It was measured to its end, and only that this machine was busy may be wrong with it."""
        assert_ended_well(self.results, self.status, self.err)


def assert_ended_well(results: Path, status: int, said: str) -> None:
    """The runs in a folder were measured to their ends, and only that this machine was busy may be wrong with them."""
    summaries = [path.read_bytes() for path in results.rglob("summary.json") if "broken-off" not in path.parts]
    assert summaries, said
    all_bad: set[str] = set()
    for verdict in (msgspec.json.decode(summary)["verdict"] for summary in summaries):
        bad = {check["name"] for check in verdict["checks"] if check["status"].upper() in {"INVALID", "INCONCLUSIVE"}}
        assert bad <= BUSY, said
        assert (verdict["status"] in {"VALID", "WARN"}) is not bool(bad), said
        all_bad |= bad
    assert status == (3 if all_bad else 0), said


def undisturbed(measure: Callable[[], T], check: Callable[[T], None], attempts: int = 5) -> None:
    """Check times that are right unless this machine stands still meanwhile: those of one attempt have to be.

    What ``measure`` itself asserts has to hold each time.
    """
    for _ in range(attempts - 1):
        found = measure()
        with suppress(AssertionError):
            return check(found)
    return check(measure())


def records_of(folder: Path) -> list[RequestRecord]:
    """The complete lines of a run's records, put together or still in the files of single processes."""
    files = sorted(folder.glob("records*.jsonl"))
    lines = (line for file in files for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))
    return list({r.request_id: r for r in map(from_line, lines)}.values())


def read_in_time(records: Sequence[RequestRecord]) -> bool:
    """Whether this machine read the streams of a run when they came; if it was too busy, it cannot say who was late."""
    delays = [r.read_delay_ns for r in records if r.read_delay_ns is not None and r.phase is Phase.MEASURE]
    return bool(delays) and median(delays) <= LOOP_LAG_LIMIT_MS * MS


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anything that would change a run, this machine's calibration included; no metrics."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("LOADGEN_", "LOCUST_", "OPENAI_", "GRAFANA_", "HF_"))
    }
    return kept | {"LOADGEN_CALIBRATION": "/nowhere/calibration.json", "LOADGEN_METRICS": "off"} | more


Locust = Callable[..., Finished]


@pytest.fixture
def locust(tmp_path: Path) -> Locust:
    """Run ``locust -f locustfiles/chat.py`` headless from another directory and wait for its end."""

    def run(*arguments: str, users: int = 1, environment: dict[str, str] | None = None) -> Finished:
        results = tmp_path / "results"
        command = [*LOCUST, "-f", str(CHAT), "--headless", "--users", str(users), "--results", str(results), *arguments]
        variables = clean_environment(**(environment or {}))
        done = run_to_end(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600)
        return Finished(done.returncode, done.stdout, done.stderr, results=results)

    return run


@pytest.fixture
def start_locust(tmp_path: Path) -> Iterator[Callable[[Sequence[str]], subprocess.Popen[str]]]:
    """Start locust and leave it running; it is killed at the end of the test."""
    started: list[subprocess.Popen[str]] = []

    def start(arguments: Sequence[str], locustfile: Path = CHAT) -> subprocess.Popen[str]:
        log = (tmp_path / "locust.log").open("w")
        process = popen(
            [*LOCUST, "-f", str(locustfile), *arguments],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
        log.close()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def start(tmp_path: Path) -> "Iterator[Starter]":
    """Start locust in processes of its own; they are killed at the end of the test."""
    from cluster import Starter  # it builds on this file

    starter = Starter(tmp_path)
    yield starter
    starter.end()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models of random weights are kept: each is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def home(tmp_path: Path, cache: Path) -> "Iterator[Home]":
    """Folders of ours, and the end of whatever was started there; nothing may be left of it."""
    from launching import Home  # it builds on this file

    made = Home(tmp_path, cache)
    yield made
    made.end()
    if made.engines():
        made.loadgen("engine", "down")
    assert made.processes() == []


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


LONGEST = (
    "test_launch_on_gpus.py",
    "test_matrix.py",
    "test_bad_bytes.py",
    "test_every_run_ends.py",
    "test_exporter.py",
    "test_engine_command.py",
    "test_annotations.py",
    "test_distributed.py",
    "test_matrix_simulated.py",
    "test_embedded.py",
    "test_sent_requests.py",
    "test_energy.py",
    "test_exact_matrix.py",
    "test_dashboards.py",
)
"""Files that take minutes: several are run at a time, and one of these begun last would be waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the tests of a file keep their order."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have counted and measured."""
    passed = terminalreporter.stats.get("passed", ())
    figures = [text for report in passed for name, text in report.user_properties if name == FIGURE]
    if figures:
        terminalreporter.section("figures")
    for text in figures:
        terminalreporter.write_line(str(text))

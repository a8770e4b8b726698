"""Running the grid: real Locust processes against the truth server, one cell after another."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from loadgen.errors import EngineError, RunError
from loadgen.launch.client import NO_KEY, start_client
from loadgen.launch.open_files import allow_open_files
from loadgen.launch.simulated import SimulatedServer, start_simulated
from loadgen.live.cells import CellProgress
from loadgen.measure.envelope import Asked, Cell, CellStatus, Sweep, envelope, judged
from loadgen.measure.statistics import SMALLEST_SAMPLE
from loadgen.printable import counted
from loadgen.results import store
from loadgen.results.calibration import Calibration
from loadgen.results.machine import this_machine
from loadgen.scenario import EAGER_TOKENS_PER_SECOND

TTFT_MS = 50.0
_SPREAD_S = 2.0
"""Over which a run spreads its users' starts."""

_START_S = 5.0
"""What a cell takes beside its answers: two processes start, and a report is written."""

_MOST_OPEN_FILES = 16_384
_OTHER_FILES = 64
"""Open files of a process that are not its streams."""

_ENDED = {0, 3, 4}
"""Exit statuses of a run that has measured something."""


@dataclass(frozen=True, slots=True)
class Grid:
    """What is measured: for each rate the numbers of streams in turn, as long as they hold."""

    rates: tuple[float, ...] = (20, 50, 100)
    """Tokens per second of a stream."""
    streams: tuple[int, ...] = (1, 64, 256, 1024, 2048, 4096)
    answer_s: float = 1.0
    """Length of an answer while all streams are read token by token. The spread of the starts is a multiple of it, so
    that answers end evenly and the rate of requests is that of any window."""
    long_answer_s: float = 2.0
    """Beyond: the end of a lazily read stream is known to 20 ms, which is 1 % of it."""
    seconds: float = 170.0
    """For everything."""

    def asked(self, streams: int, rate: float) -> Asked:
        """Return one cell."""
        seconds = self.answer_s if streams * rate <= EAGER_TOKENS_PER_SECOND else self.long_answer_s
        return Asked(streams, rate, 1 + max(1, round((seconds - TTFT_MS / 1000) * rate)), TTFT_MS)


def measure(grid: Grid, progress: CellProgress) -> Calibration:
    """Measure the grid; raises EngineError if the truth server does not start, RunError if a run of Locust fails."""
    most = allow_open_files(_MOST_OPEN_FILES) - _OTHER_FILES
    deadline = time.monotonic() + grid.seconds
    climbs = [Climb(grid, rate, most, deadline, progress) for rate in grid.rates]
    for climb in climbs:
        climb.go_on()
    # What time is left goes to a second look at what ended a rate: a disturbance from beside is no limit of ours.
    for climb in sorted((climb for climb in climbs if climb.failed), key=lambda climb: climb.cells[-1].streams):
        climb.go_on()
    sweeps = tuple(Sweep(tokens_per_second=c.rate, cells=tuple(c.cells), stopped=c.stopped) for c in climbs)
    return Calibration(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=this_machine(),
        sweeps=sweeps,
        envelope=envelope(sweeps),
    )


@dataclass(slots=True)
class Climb:
    """One rate, measured with ever more streams until a cell does not hold."""

    grid: Grid
    rate: float
    most: int
    """Streams that the open files of a process allow."""
    deadline: float
    progress: CellProgress
    cells: list[Cell] = field(default_factory=list)
    stopped: str = ""

    @property
    def failed(self) -> bool:
        """Whether the last cell did not hold."""
        return bool(self.cells) and self.cells[-1].status is not CellStatus.HELD

    def go_on(self) -> None:
        """Climb on from the cell that did not hold, if there is one."""
        done = {cell.streams for cell in self.cells if cell.status is CellStatus.HELD}
        for streams in self.grid.streams:
            if streams not in done and not self._holds(self.grid.asked(streams, self.rate)):
                return
        self.stopped = f"more than {counted(self.grid.streams[-1], 'stream')}: not tried, the top of the grid"

    def _holds(self, asked: Asked) -> bool:
        left = self.deadline - time.monotonic()
        if asked.streams > self.most:
            limit = f"the limit of open files (ulimit -n) is {self.most + _OTHER_FILES:,}"
            return self._stop(f"{counted(asked.streams, 'stream')}: not tried, {limit}")
        if left < _expected_s(asked):
            return self._stop(self.stopped or f"{counted(asked.streams, 'stream')}: not tried, the time was up")
        self.progress.begin(asked)
        cell = _cell(asked, left)
        if cell is None:
            return self._stop(self.stopped or f"{counted(asked.streams, 'stream')}: not measured, the time was up")
        self.progress.end(cell)
        self.cells.append(cell)
        return cell.status is CellStatus.HELD or self._stop(
            f"{counted(cell.streams, 'stream')}: {cell.status}, {cell.why}"
        )

    def _stop(self, why: str) -> bool:
        self.stopped = why
        return False


def _cell(asked: Asked, left: float) -> Cell | None:
    """Run one cell, None if our time was up; both of its processes are gone when this returns or raises."""
    patience = 2 * _expected_s(asked)
    with tempfile.TemporaryDirectory(prefix="loadgen-") as name:
        folder = Path(name)
        with _truth_server(folder, asked) as server, (folder / "locust.err").open("wb") as said:
            status = _run_locust(server, folder, asked, min(left, patience), said.fileno())
        if status is None:
            return None if left < patience else asked.cell(CellStatus.FAILED, f"not done after {patience:.0f} s")
        if status not in _ENDED:
            last = (folder / "locust.err").read_text(errors="replace").strip().rpartition("\n")[2]
            raise RunError(f"calibrate: the run of {asked.streams} streams ended with status {status}: {last}")
        (run,) = (folder / "results").iterdir()
        manifest, records = store.read_folder(run)
        return judged(asked, manifest.itl_share, records, server.truths())


@contextmanager
def _truth_server(folder: Path, asked: Asked) -> Iterator[SimulatedServer]:
    try:
        server = start_simulated(folder / "truth.jsonl", ttft_ms=TTFT_MS, itl_ms=asked.gap_ms)
    except ChildProcessError as error:
        raise EngineError(f"calibrate: the truth server, which needs Linux, did not start: {error}") from None
    try:
        _pin(server.child.pid, _cores()[-1:])
        yield server
    finally:
        server.child.stop()  # the log is complete now


def _run_locust(server: SimulatedServer, folder: Path, asked: Asked, patience: float, said: int) -> int | None:
    """Run the client to its end; return its exit status, None if it was not done in time."""
    options = {
        "--host": server.host,
        "--users": asked.streams,
        "--requests": _requests(asked),
        "--warmup": min(asked.streams, 50),
        "--sample": 50,
        "--max-tokens": asked.tokens,
        "--results": folder / "results",
        "--loglevel": "ERROR",
        "--metrics": "off",
    }
    process = start_client("chat", options, folder, errors=said, environment=NO_KEY)
    try:
        _pin(process.pid, _cores()[:-1])
        return int(process.wait(timeout=patience))
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.kill()
        process.wait()


def _requests(asked: Asked) -> int:
    """Return how many requests: two rounds of all streams, or up to six where a p99 needs them."""
    return max(2 * asked.streams, min(SMALLEST_SAMPLE["p99"], 6 * asked.streams))


def _expected_s(asked: Asked) -> float:
    answer_s = (asked.ttft_ms + asked.gap_ms * asked.tokens) / 1000
    return _START_S + _SPREAD_S + answer_s * (1 + _requests(asked) / asked.streams)


def _cores() -> Sequence[int]:
    """Return the cores we may use; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _pin(pid: int, cores: Sequence[int]) -> None:
    """Keep a process on some cores, if it leaves others for its peer."""
    if cores and len(_cores()) > 1:
        os.sched_setaffinity(pid, cores)

"""Measures a matrix: cell by cell, whatever becomes of each."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from loadgen.errors import EngineError, RunError, UsageError
from loadgen.launch import processes
from loadgen.launch.client import NO_KEY, LoadName, interrupt, start_client
from loadgen.launch.gpus import gpus
from loadgen.launch.launcher import RunningEngine, reap, started
from loadgen.launch.locks import exclusive, locked
from loadgen.launch.readiness import last_words
from loadgen.launch.registry import registered
from loadgen.live.status import Status
from loadgen.matrix.cell import Cell, Part
from loadgen.matrix.config import Config, request_options, throughput_of
from loadgen.matrix.matrix import Matrix
from loadgen.matrix.plan import Planned, look
from loadgen.results.headline import headline
from loadgen.results.report import summary_of
from loadgen.scenario import flag
from loadgen.workload import datasets
from loadgen.workload.plan import draw

MARK = "LOADGEN_MATRIX"
"""Environment variable of our clients: the folder of the matrix that they measure for."""

_USABLE = {0, 3, 4}
"""Exit statuses of a run that has measured something."""

_POLL_S = 1.0


def run(matrix: Matrix, status: Status) -> None:
    """Measure the cells of a matrix that are missing.

    A failed cell is recorded with its reason; the rest of the matrix continues. KeyboardInterrupt leaves a matrix that
    can be resumed. Raises UsageError if no cell can be measured, for example because another process holds the GPUs.
    """
    config = matrix.config
    draw(
        datasets.load(config.dataset), sample=config.sample, warmup=config.warmup, seed=config.seed
    )  # or all cells fail
    with ExitStack() as stack:
        purpose = f"loadgen matrix {matrix.folder.name}"
        stack.enter_context(locked(matrix.folder / ".lock", f"{matrix.folder} is being measured by {{}}", purpose))
        processes.end(str(matrix.folder), MARK)  # clients of one of us that was killed, before their engine goes
        reap(status)
        held = _Held(stack, purpose)
        there = gpus()
        for planned in [look(config, cell, there) for cell in matrix.cells() if cell.missing]:
            held.take(planned)
        cells = list(matrix.cells())
        for number, cell in enumerate(cells, start=1):
            _measure(matrix, cell, held, f"[{number}/{len(cells)}] {cell.row} on {cell.column}", status)


class _Held:
    """The GPUs, or the CPU, that nobody else gets for as long as the matrix is measured."""

    def __init__(self, stack: ExitStack, purpose: str) -> None:
        self._stack, self._purpose = stack, purpose
        self._places: set[int | None] = set()
        """Indices of GPUs; None: the CPU."""

    def take(self, planned: Planned) -> None:
        """Lock the GPUs, or the CPU, of a cell unless we hold them; raises EngineError if another process does."""
        if planned.order is None:
            return
        placement = planned.order.placement
        new = set(placement.indices or (None,)) - self._places
        if not new:
            return
        with ExitStack() as taken:
            taken.enter_context(exclusive([gpu for gpu in placement.gpus if gpu.index in new], self._purpose))
            for one in registered():
                if one.is_there and new & set(one.gpus or (None,)):
                    where = f"GPU {', '.join(map(str, one.gpus))}" if one.gpus else "the CPU"
                    raise EngineError(f"{one.name} runs on {where}: stop it first, loadgen engine down {one.id}.")
            self._stack.enter_context(taken.pop_all())
        self._places |= new


def _measure(matrix: Matrix, cell: Cell, held: _Held, title: str, status: Status) -> None:
    missing = cell.missing
    if not missing:
        return
    planned = look(matrix.config, cell, gpus())  # as they are now: hours may have passed
    if planned.skip is not None:
        status.say(f"{title}: left out, {planned.skip}")
        return
    cell.folder.mkdir(parents=True, exist_ok=True)
    cell.try_again()
    title += f", repeat {cell.repeat}" if matrix.config.repeats > 1 else ""
    try:
        if planned.problem is not None:
            raise EngineError(planned.problem)
        held.take(planned)  # another GPU than at first, where that one is lost
        status.say(f"{title}: {', '.join(missing)}")
        _run_parts(matrix, planned, missing, status)
    except UsageError as error:  # whatever the mistake is: the next cell may be right
        cell.fail(str(error))
        status.say(f"{title}: FAILED: {error}")


def _run_parts(matrix: Matrix, planned: Planned, parts: Sequence[Part], status: Status) -> None:
    if planned.order is None:
        assert planned.said.host is not None
        for part in parts:
            _run_part(matrix, planned, part, planned.said.host, None, status)
        return
    with started(planned.order, log=planned.cell.log, status=status) as live:
        for part in parts:
            _run_part(matrix, planned, part, live.running.host, live, status)


def _run_part(
    matrix: Matrix, planned: Planned, part: Part, host: str, live: RunningEngine | None, status: Status
) -> None:
    """Measure one part, to its end.

    Raises EngineError if the engine ended meanwhile, and RunError if Locust left no results.
    """
    cell = planned.cell
    cell.set_aside(part)
    place = cell.place_of(part)
    place.mkdir(parents=True, exist_ok=True)
    load, options = _options(matrix.config, planned, part, host)
    environment = {MARK: str(matrix.folder)}
    if planned.said.key is not None:
        environment |= NO_KEY | {"OPENAI_API_KEY": os.environ.get(planned.said.key, "")}
    elif planned.order is not None:  # an engine that was started here has no use for that of another
        environment |= NO_KEY
    said = cell.folder / f"{part}.log"
    with said.open("wb") as errors:
        client = start_client(
            load, {**options, "--results": place}, cell.folder, errors=errors.fileno(), environment=environment
        )
        try:
            ended = _follow(client, place, f"{cell.row} on {cell.column}, {part}", status)
        except BaseException:
            interrupt(client)
            raise
    if live is not None and (died := live.ended()) is not None:
        cell.set_aside(part, whole=True)
        last = last_words(cell.log, 1)
        raise EngineError(f"the engine ended with status {died} during {part}: {last}", last_words(cell.log))
    folder = cell.run_of(part)
    if ended not in _USABLE or folder is None:
        raise RunError(f"{part} gave no run (exit status {ended}):", last_words(said, 3))
    status.say(f"{part}: {_headline(folder)}")


def _options(config: Config, planned: Planned, part: Part, host: str) -> tuple[LoadName, Mapping[str, object]]:
    options: dict[str, object] = {
        "--host": host,
        "--engine": planned.engine.spec,
        "--dataset": config.dataset,
        "--sample": config.sample,
        "--seed": config.seed,
        "--max-tokens": config.max_tokens,
        "--temperature": config.temperature,
        "--warmup": config.warmup,
        "--loglevel": "WARNING",
    }
    if config.ignore_eos:
        options["--ignore-eos"] = True
    if planned.said.model is not None:
        options["--model"] = planned.said.model
    options |= {flag(name): value for name, value in request_options(planned.said).items()}
    if part == "throughput":
        asked = throughput_of(config, planned.cell.column)
        options |= {"--steps": asked.steps, "--step-time": asked.step_time, "--precision": asked.precision}
        options |= {"--slo": asked.slo} if asked.slo else {}
        options |= {"--max-tokens": asked.max_tokens} if asked.max_tokens else {}
        return "sweep", options
    options["--users"] = 1
    if part == "speed":
        options["--no-stream"] = True
    return "chat", options


def _follow(client: "subprocess.Popen[bytes]", place: Path, title: str, status: Status) -> int:
    """Wait for a client to end, and say meanwhile how far it is; return its exit status."""
    while True:
        try:
            return client.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            status.now(f"{title}: {_recorded(place)} requests")


def _recorded(place: Path) -> int:
    """Return how many requests have been recorded; files that are put together at this moment may be gone."""
    records = 0
    for path in place.glob("*/records*.jsonl"):
        with suppress(FileNotFoundError):
            records += path.read_bytes().count(b"\n")
    return records


def _headline(folder: Path) -> str:
    """Return the first line of what a run has found, and its verdict."""
    summary = summary_of(folder)
    return f"{headline(summary).figure}, {summary.verdict.status.value}"

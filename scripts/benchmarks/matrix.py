"""The matrix on the simulated engine, with the profiles of the specification: are its tables the reference figures."""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures, Section
from benchmarks.machine import environment
from benchmarks.ours import RunError
from benchmarks.rounds import run_rounds
from benchmarks.usage import run
from loadgen.matrix.gather import results
from loadgen.matrix.matrix import reopen
from loadgen.matrix.reference import SPEED, THROUGHPUT, Reference
from loadgen.matrix.result import Result

FILES = Path(__file__).with_name("matrices")
_TIMEOUT_S = 900.0
_USABLE = {0, 3, 4}
_ALLOWED = 0.01

Key = tuple[str, str]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run both matrices."""
    off: dict[str, list[float]] = {}
    cases = {
        "speed, 13 figures": partial(_round, "simulated-speed.toml", SPEED, off.setdefault("speed", [])),
        "requests/min, 3 figures": partial(
            _round, "simulated-throughput.toml", THROUGHPUT, off.setdefault("requests/min", [])
        ),
    }
    measured, failures = run_rounds(cases, options.rounds)
    lines = [
        f"{name}: {len(found)} figures, the farthest {max(found, key=abs):+.2%} off, "
        f"{'all' if all(abs(one) <= _ALLOWED for one in found) else 'NOT all'} within {_ALLOWED:.0%}."
        for name, found in off.items()
        if found
    ]
    title = (
        "loadgen matrix on the simulated engine, 100 times as fast as the engines it stands for, 953 tokens an answer"
    )
    return Section(title, measured, [*failures, *lines])


def _round(name: str, references: Mapping[Key, Reference], off: list[float]) -> Figures:
    with tempfile.TemporaryDirectory(prefix="bench-matrix-") as place:
        own = {"XDG_STATE_HOME": f"{place}/state"}
        command = [sys.executable, "-m", "loadgen.cli", "matrix", str(FILES / name), "--results", place]
        usage = run(command, core=None, env=environment() | own, cwd=Path(place), timeout=_TIMEOUT_S)
        if usage.timed_out or usage.status not in _USABLE:
            raise RunError(f"loadgen matrix ended with status {usage.status}: {usage.tail}")
        found = {(r.reference or "", r.model): r for r in results(reopen(None, Path(place)))}
    figures: dict[str, float] = {}
    for key, reference in references.items():
        if key in found and (value := measured_value(found[key])) is not None:
            off.append(value / reference.value - 1)
            figures[f"{key[1]} on {key[0]}: reference"] = reference.value
            figures[f"{key[1]} on {key[0]}: measured"] = value
    return {**figures, "whole matrix, s": usage.wall_s}


def measured_value(result: Result) -> float | None:
    """Return the figure of a cell in the engine's own time: tokens/s, or where it was swept requests/min."""
    for summary in result.speed:
        speed = summary.speed and summary.speed.tokens_per_second_mean
        return speed.value / result.time_factor if speed and speed.value is not None else None
    for summary in result.throughput:
        rate = summary.throughput and summary.throughput.requests_per_minute
        return rate.value / result.time_factor if rate and rate.value is not None else None
    return None

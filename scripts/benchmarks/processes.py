"""The same sweep by one process, by ``--processes 2``, and by a master with two workers started by hand."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO

from benchmarks import sweeps
from benchmarks.capacity import BOUNDS
from benchmarks.figures import Figures, Section
from benchmarks.machine import environment, free_port
from benchmarks.options import counts
from benchmarks.ours import RunError
from benchmarks.rounds import run_rounds
from benchmarks.sweeps import SWEEP, Headline, Place

_TIMEOUT_S = 300.0
_WORKERS = 2
_USABLE = {0, 3, 4}
Way = Callable[[Place, Sequence[str]], str]
"""Makes a run in a place, with options for sweep.py; returns what it printed at its end."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--profile", default="batch-bound", choices=sorted(BOUNDS), help="engine")
    parser.add_argument("--steps", type=counts, default="8,16,32", help="users of each step")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Run all cases."""
    found: dict[str, list[Headline]] = {}
    ways: dict[str, Way] = {
        "1 process": _alone,
        f"--processes {_WORKERS}": _forked,
        f"--master, {_WORKERS} x --worker": _by_hand,
    }
    cases = {name: partial(_round, options, way, found.setdefault(name, [])) for name, way in ways.items()}
    measured, failures = run_rounds(cases, options.rounds)
    bound = BOUNDS[options.profile]
    title = f"sweep.py --steps {options.steps} on {bound.profile} x{bound.time_factor:g}, all processes on any core"
    return Section(title, measured, [*failures, *_lines(found)])


def _lines(found: dict[str, list[Headline]]) -> list[str]:
    lines = []
    for name, headlines in found.items():
        for headline in headlines:
            counted = headline.summary["requests"]
            parts = [counted[part] for part in ("completed", "failed", "aborted", "dropped")]
            kept = "=" if counted["started"] == sum(parts) else "IS NOT"
            lines.append(
                f"{name}: {headline.text} at {headline.users} users; {counted['started']} started {kept} "
                f"{' + '.join(map(str, parts))} completed, failed, aborted, dropped; "
                f"{'; '.join([headline.verdict, *headline.findings])}"
            )
    every = [headline for headlines in found.values() for headline in headlines]
    if len(every) > 1:
        agree = all(every[0].agrees(other) for other in every[1:])
        lines.append(f"They {'agree' if agree else 'DO NOT agree'}: intervals overlap, or they are at most 1 % apart.")
    return lines


def _round(options: argparse.Namespace, way: Way, found: list[Headline]) -> Figures:
    bound = BOUNDS[options.profile]
    with sweeps.engine(bound) as place:
        began = time.perf_counter()
        tail = way(place, ["--steps", options.steps])
        wall_s = time.perf_counter() - began
        headline = sweeps.headline(place, lambda: tail)
    if headline.value is None:
        raise RunError(f"no step was steady and long enough: {tail}")
    found.append(headline)
    counted = headline.summary["requests"]
    figures = {
        "closed form, requests/min": bound.requests_per_minute,
        "measured, requests/min": headline.value,
        **({} if headline.ci95 is None else {"from, requests/min": headline.ci95[0], "to": headline.ci95[1]}),
        "off by, %": 100 * (headline.value / bound.requests_per_minute - 1),
        "at users": headline.users,
    }
    for step in headline.summary["steps"]:
        if step["requests_per_minute"] and step["requests_per_minute"]["value"] is not None:
            figures[f"{step['concurrency']} users, requests/min"] = step["requests_per_minute"]["value"]
    figures |= {part: counted[part] for part in ("started", "completed", "failed", "aborted", "dropped")}
    return figures | {"whole run, s": wall_s}


def _alone(place: Place, options: Sequence[str]) -> str:
    return _ended(place, [sweeps.command(place, *options)])


def _forked(place: Place, options: Sequence[str]) -> str:
    port = str(free_port())
    both = ["--master-bind-port", port, "--master-port", port]
    return _ended(place, [sweeps.command(place, *options, "--processes", str(_WORKERS), *both)])


def _by_hand(place: Place, options: Sequence[str]) -> str:
    port = str(free_port())
    asked = ["--master", "--expect-workers", str(_WORKERS), "--master-bind-host", "127.0.0.1"]
    master = sweeps.command(place, *options, *asked, "--master-bind-port", port)
    worker = [sys.executable, "-m", "locust", "-f", str(SWEEP), "--worker", "--loglevel", "ERROR"]
    joins = ["--master-host", "127.0.0.1", "--master-port", port]
    return _ended(place, [master, *[[*worker, *joins]] * _WORKERS])


def _ended(place: Place, commands: Sequence[Sequence[str]]) -> str:
    """Run commands beside one another to their ends; raises RunError. The status of the first is that of all."""
    with tempfile.TemporaryFile() as output:
        started = [_start(place, command, output) for command in commands]
        try:
            status = started[0].wait(_TIMEOUT_S)
            for process in started[1:]:
                process.wait(30)
        except subprocess.TimeoutExpired as late:
            raise RunError(f"a process of our client did not end: {late}") from None
        finally:
            for process in started:
                process.kill()
                process.wait()
        output.seek(0)
        tail = output.read().decode(errors="replace")[-2000:]
    if status not in _USABLE:
        raise RunError(f"our client ended with status {status}: {tail}")
    return tail


def _start(place: Place, command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=place.folder,
        env=environment(),
    )

"""Figures of simulated servers whose truth is known: how often they have an interval, and how often it holds it."""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from benchmarks.cells import closed, rates, small, speeds, sweeps
from benchmarks.cells.cell import FEWEST, Cell, columns
from benchmarks.figures import Figures, Section

Measure = Callable[[int, np.random.Generator], Mapping[str, Cell]]
"""Of runs and a generator: a cell for each figure."""

PARTS = ("closed", "small", "sweeps", "rates", "speeds")
_SEED = 2026


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--runs", type=int, default=100, help="simulated runs of each cell")
    parser.add_argument("--part", choices=PARTS, help="a part of the cells; all of them if not given")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Play all cells."""
    found: dict[str, Figures] = {}
    for load, cells in measured(cells_of(options.part), options.runs):
        print(load, file=sys.stderr, flush=True)
        found |= {f"{load}: {figure}": cell.figures() for figure, cell in cells.items()}
    title = f"{options.runs} runs of each cell on virtual time; nominal 95 %"
    return Section(title, columns(found), _notes(), options.part or "")


def measured(loads: Mapping[str, Measure], runs: int) -> Iterator[tuple[str, Mapping[str, Cell]]]:
    """Play loads, each with a generator of its own: what one finds does not depend on which others are played."""
    for load, of in loads.items():
        yield load, of(runs, np.random.default_rng([_SEED, *load.encode()]))


def cells_of(part: str | None = None) -> dict[str, Measure]:
    """Return how to measure the cells of a part, or of all, by the name of their load."""
    loads: dict[str, Measure] = {}
    if part in {None, "closed"}:
        loads |= {f"closed: {name}": partial(closed.measured, load) for name, load in closed.loads().items()}
    if part in {None, "small"}:
        loads |= {
            f"one user: {name}, {n} answers": partial(small.of_one_user, name, n)
            for name in small.ONE_USER
            for n in small.ANSWERS
        }
        loads |= {
            f"few: {name}, {users} users, {trips} round trips": partial(small.of_several, name, users, trips)
            for name in small.SYSTEMS
            for users in small.USERS
            for trips in small.TRIPS
        }
    if part in {None, "sweeps"}:
        loads |= {f"sweep: {name}": partial(sweeps.measured, name) for name in sweeps.SWEEPS}
    if part in {None, "rates"}:
        loads |= {
            f"open: {name} at {load:g}, {n:,} requests": partial(rates.measured, name, load, n)
            for name in rates.SYSTEMS
            for load in rates.LOADS
            for n in rates.LENGTHS
        }
    if part in {None, "speeds"}:
        loads |= {
            f"speed: {name}, {n:,} answers": partial(speeds.measured, name, n)
            for name in speeds.MODELS
            for n in speeds.LENGTHS
        }
    return loads


def _notes() -> list[str]:
    return [
        f"Told of {FEWEST} intervals or values and more. If 95 in 100 hold the truth, 90 to 99 do so of 100.",
        "Oracle: 1.96 times the standard deviation of the values over the runs.",
        f"Closed: steps of {closed.STEP_S:g} s, each looked at every {closed.LOOK_S:g} s; precision of 2 %.",
        "The round trip is that of as many users as are served at once, which are 1x.",
        "Given time: as if the best step before had the true throughput, so that only an interval ends the step.",
        "Open: latencies count from the schedule; an interval may miss the truth by 0.001 mean service times.",
    ]

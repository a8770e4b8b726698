"""What the verdict's checks find in simulated runs: faults that are there, and false alarms where there are none."""

import argparse
import sys
from collections.abc import Iterable, Mapping

import numpy as np

from benchmarks.cells import alarms
from benchmarks.cells.alarms import Seen, Trial
from benchmarks.cells.cell import columns
from benchmarks.figures import Figures, Section

_SEED = 2026


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--runs", type=int, default=100, help="simulated runs of each kind; of sweeps a fifth")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Play all kinds of runs."""
    found: dict[str, Figures] = {}
    notes = [
        "Found: by the check that is named, which warned of it or worse. Any: by any check.",
        "Left out: the window begins after the fault, so that the figures are not of it; a step is extended for that.",
    ]
    for name, trial in trials().items():
        print(name, file=sys.stderr, flush=True)
        raised = played(name, trial, options.runs)
        found[f"{trial.check or 'clean'}: {name}"] = shares(trial, raised)
        if trial.check is None and (by := by_check(raised)):
            notes.append(f"Clean, {name}: {by}")
    return Section(f"{options.runs} runs of each kind on virtual time", columns(found), notes)


def trials() -> Mapping[str, Trial]:
    """Return all kinds of runs."""
    return {**alarms.clean(), **alarms.bursts(), **alarms.holes(), **alarms.disturbances()}


def played(name: str, trial: Trial, runs: int) -> list[Seen]:
    """Play a kind of run; what is found does not depend on which others are played."""
    rng = np.random.default_rng([_SEED, *name.encode()])
    return [trial.once(rng) for _ in range(-(-runs // trial.length))]


def shares(trial: Trial, runs: list[Seen]) -> Figures:
    """Return in how many of the runs there was an alarm."""
    any_check = _share(bool(run.alarms) for run in runs)
    if trial.check is None:
        return {"any, %": any_check}
    said = [run.alarms.get(trial.check) for run in runs]
    found = {"found, %": _share(status is not None for status in said)}
    found["INVALID, %"] = _share(status == "invalid" for status in said)
    left_out = {} if trial.at_s is None else {"left out, %": _share(run.left_out for run in runs)}
    return found | left_out | {"any, %": any_check}


def by_check(runs: list[Seen]) -> str:
    """Say which checks raised how many alarms."""
    names = sorted({name for run in runs for name in run.alarms})
    return ", ".join(f"{sum(name in run.alarms for run in runs)} by {name}" for name in names)


def _share(of: Iterable[bool]) -> float:
    return 100 * float(np.mean(list(of)))

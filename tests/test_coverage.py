"""What simulated servers show of the statistics: intervals hold the truth, clean runs pass, faults are found."""

import sys
from collections.abc import Mapping

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks import coverage, detection
from benchmarks.cells import alarms, closed, rates, small, speeds, sweeps
from benchmarks.cells.cell import Cell
from benchmarks.cells.systems import MARKOVIAN

from loadgen.measure.doubling import FixedSteps

CHANCE = 1e-4
"""Of a failure where all is well, in each comparison."""

LOADS = {
    "closed: M/M/16, 3 s, 1x users": 20,
    "closed: batching 16 CV 2, 0.5 s, 0.5x users": 20,
    "open: M/G/16 CV 1 at 0.5, 1,000 requests": 40,
    "open: batching 16 CV 1 at 0.5, 300 requests": 60,
    "speed: lengths of CV 1, 30 answers": 40,
    "speed: lengths of CV 1, 100 answers": 40,
}
"""Runs of each."""
SMALL = {
    "one user: lengths of CV 1, 2 answers": 20,
    "one user: lengths of CV 0.5, 3 answers": 100,
    "one user: lengths of CV 2, 5 answers": 100,
    "one user: lengths all the same, it wanders by 5 %, 10 answers": 100,
    "one user: lengths of CV 1, 30 answers": 60,
    "few: M/M/16, 1 users, 5 round trips": 100,
    "few: M/G/32 CV 2, 4 users, 10 round trips": 60,
    "few: batching 16 CV 1, 64 users, 3 round trips": 30,
    "few: wandering batching 16, 64 users, 5 round trips": 30,
}
"""Runs of a few answers; each has fixed seeds."""

FEW = 15
"""Intervals from which nine tenths can be told from half."""
RARE_WAITS = "ttft_ms mean"
"""At half of its capacity a queue makes one request in a hundred wait: many runs see none, and say so."""


@pytest.fixture(scope="module")
def cells() -> Mapping[str, Cell]:
    return measured(LOADS)


@pytest.fixture(scope="module")
def small_cells() -> Mapping[str, Cell]:
    return measured(SMALL)


def measured(loads: Mapping[str, int]) -> Mapping[str, Cell]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rates, "TRUTH_REQUESTS", 50_000)
        patch.setattr(speeds, "TRUTH_ANSWERS", 20_000)
        patch.setattr(small, "TRUTH_TRIPS", 200)
        known = coverage.cells_of()
        found = {}
        for load, runs in loads.items():
            ((_, of),) = coverage.measured({load: known[load]}, runs)
            found |= {f"{load}: {figure}": cell for figure, cell in of.items()}
    return found


def test_nine_tenths_of_the_printed_intervals_and_more_hold_the_truth(cells: Mapping[str, Cell]) -> None:
    told = {name: cell for name, cell in cells.items() if cell.printed >= FEW}
    assert len(told) >= 8
    wrong = {
        name: (cell.held, cell.printed)
        for name, cell in told.items()
        if cell.holds_less_than(0.9, CHANCE) and not name.endswith(RARE_WAITS)
    }
    assert not wrong


def test_nine_tenths_of_the_intervals_for_a_few_answers_hold_the_truth(small_cells: Mapping[str, Cell]) -> None:
    told = {name: cell for name, cell in small_cells.items() if cell.printed >= FEW}
    assert len(told) >= 18
    wrong = {name: (cell.held, cell.printed) for name, cell in told.items() if cell.held < 0.9 * cell.printed}
    assert not wrong


def test_two_answers_have_no_interval(small_cells: Mapping[str, Cell]) -> None:
    of_two = [cell for name, cell in small_cells.items() if ", 2 answers: " in name]
    assert len(of_two) == 3
    assert not any(cell.printed for cell in of_two)


@pytest.mark.parametrize(
    "name", ["speed, 100 answers", "step of 60 s, 16 users", "rate of M/M/16 at 0.5, 1,000 requests"]
)
def test_few_clean_runs_are_warned_of(name: str) -> None:
    from scipy.special import bdtr

    trial = alarms.clean()[name]
    runs = 10 if "step" in name else 40
    raised = sum(bool(run.alarms) for run in detection.played(name, trial, runs))
    assert 1 - float(bdtr(raised - 1, runs, 0.05)) > CHANCE if raised else True


@pytest.mark.parametrize("name", alarms.bursts())
def test_a_schedule_that_was_followed_raises_no_alarm_however_it_bursts(name: str) -> None:
    runs = detection.played(name, alarms.bursts()[name], 5)
    assert not [run for run in runs if "arrivals as asked" in run.alarms]


@pytest.mark.parametrize("name", alarms.holes())
def test_figures_of_something_else_than_was_asked_for_are_found(name: str) -> None:
    trial = alarms.holes()[name]
    runs = detection.played(name, trial, 20)
    assert sum(trial.check in run.alarms for run in runs) >= 19


@pytest.mark.parametrize("name", ["jump by 30 %, speed, 100 answers", "first 20 answers 5x slower, speed, 30 answers"])
def test_a_change_of_speed_is_found_in_the_answers_to_one_user(name: str) -> None:
    trial = alarms.disturbances()[name]
    runs = detection.played(name, trial, 20)
    assert sum(trial.check in run.alarms for run in runs) >= 19


def test_a_cell_counts_what_is_printed_and_what_holds() -> None:
    from scipy.special import bdtr

    cell = Cell(no_matter=0.1)
    for value, ci95 in ((1.0, (0.9, 1.1)), (1.2, (1.05, 1.3)), (1.3, (1.2, 1.4)), (1.0, None), (None, None)):
        cell.add(value, ci95, 1.0, unsteady=value is None)
    assert (cell.held, cell.printed) == (2, 3)
    assert cell.figures() == {"no value, %": pytest.approx(20), "no interval, %": 40, "intervals": 3, "unsteady": 20}
    assert not cell.holds_less_than(0.9, 0.01)
    assert cell.holds_less_than(0.9, 0.1) is (float(bdtr(2, 3, 0.9)) < 0.1)


def test_a_sweep_on_virtual_time_has_the_steps_and_windows_of_a_real_one() -> None:
    sweep = sweeps.play(MARKOVIAN.slowed(0.05).model, FixedSteps([4, 16, 64]), np.random.default_rng(1), step_s=5.0)
    assert [step.concurrency for step in sweep.facts] == [4, 16, 64]
    assert sweep.headline.knee is not None
    assert sweep.headline.requests_per_minute is not None
    assert sweep.headline.requests_per_minute.value == pytest.approx(60 * 16 / 0.05, rel=0.1)
    windows = [step.window_ns for step in sweep.facts]
    assert all(w is not None and step.began_ns < w[0] < w[1] for w, step in zip(windows, sweep.facts, strict=True))
    assert {r.step for r in sweep.records} == {0, 1, 2}


def test_a_step_with_an_interval_is_the_same_where_it_is_given_time() -> None:
    load = closed.loads()["M/M/16, 0.5 s, 1x users"]
    alone, given_time = closed.plays(load.system.slowed(0.5).model, load, np.random.default_rng(1))
    assert alone.found is not None
    assert given_time.lasted_s >= alone.lasted_s

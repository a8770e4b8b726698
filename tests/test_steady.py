"""When a load has become steady, and what is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadgen.measure.steady import Steadiness, drift, mser5, steady

Array = NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)


def noise(seed: int, n: int = 300, sd: float = 5.0) -> Array:
    return np.random.default_rng(seed).normal(0, sd, n)


def ramp_and_plateau(seed: int, ramp: int = 60, n: int = 300) -> Array:
    return np.minimum(np.arange(n) / ramp, 1) * 100 + noise(seed, n)


def test_the_cut_lies_at_the_end_of_a_ramp() -> None:
    cuts = [cut for seed in range(200) if (cut := mser5(ramp_and_plateau(seed))) is not None]
    assert len(cuts) >= 190
    assert min(cuts) >= 45
    assert 50 <= np.median(cuts) <= 70


def test_what_follows_a_ramp_is_steady() -> None:
    found = [steady({"requests/min": ramp_and_plateau(seed)}) for seed in range(40)]
    assert sum(s.unsteady is None for s in found) >= 34
    assert all(s.cut is not None and s.cut >= 45 for s in found if s.unsteady is None)


def test_the_last_series_to_become_steady_decides() -> None:
    early, late = ramp_and_plateau(1, ramp=20), ramp_and_plateau(2, ramp=120)
    alone, both = steady({"late": late}), steady({"early": early, "late": late})
    assert both.cut is not None
    assert both.cut >= 100
    assert alone.cut == both.cut


def test_a_ramp_that_does_not_end_is_not_steady() -> None:
    found = steady({"requests in flight": np.arange(300.0) + noise(3)})
    assert found.cut is None
    assert found.unsteady is not None
    assert found.unsteady.startswith("requests in flight changed by +")


def test_a_queue_that_grows_is_not_steady() -> None:
    rng = np.random.default_rng(4)
    waiting = np.maximum(0, np.cumsum(rng.poisson(11, 400) - rng.poisson(10, 400))).astype(float)
    assert steady({"requests in flight": waiting}).unsteady is not None


def test_a_queue_that_comes_and_goes_is_not_said_to_be_unsteady() -> None:
    rng = np.random.default_rng(5)
    unsteady = 0
    for _ in range(50):
        level, levels = 0, []
        for change in rng.poisson(8, 2000) - rng.poisson(10, 2000):
            level = max(0, level + change)
            levels.append(float(level))
        unsteady += steady({"requests in flight": np.array(levels)}).unsteady is not None
    assert unsteady <= 5


@pytest.mark.parametrize("n", [0, 1, 10, 49])
def test_a_few_points_tell_nothing(n: int) -> None:
    assert steady({"requests/min": np.ones(n)}) == Steadiness(None, None, f"too short to tell: {n} points")


def test_no_series_tell_nothing() -> None:
    assert steady({}).undecided == "too short to tell: 0 points"


@given(st.floats(1e-3, 1e9), st.integers(50, 400))
def test_what_never_changes_is_steady_from_the_start(level: float, n: int) -> None:
    assert steady({"requests in flight": np.full(n, level)}) == Steadiness(0, None)


@given(seeds, st.floats(1, 1e9))
def test_rounding_and_differences_of_a_few_thousandths_are_no_drift(seed: int, level: float) -> None:
    rising = level * (1 + np.linspace(0, 0.004, 300)) * (1 + 1e-6 * np.random.default_rng(seed).normal(size=300))
    assert drift(rising) is None
    assert steady({"requests/min": rising}).unsteady is None


@given(seeds, st.floats(1e-3, 1e3))
def test_the_unit_of_a_series_does_not_matter(seed: int, factor: float) -> None:
    series = ramp_and_plateau(seed) + 1
    assert mser5(factor * series) == mser5(series)
    assert steady({"a": factor * series}) == steady({"a": series})


def test_a_fall_is_told_with_its_sign() -> None:
    found = drift(np.linspace(100, 80, 300) + noise(6, sd=2))
    assert found == "changed by -22% over the window"


def test_a_step_is_found_by_beginning_and_end() -> None:
    stepped = np.where(np.arange(300) < 75, 100.0, 103.0) + noise(7, sd=1)
    assert drift(stepped) is not None


def test_bins_without_a_value_are_passed_over() -> None:
    series = ramp_and_plateau(8)
    holes = series.copy()
    holes[::7] = np.nan
    found = steady({"TTFT": holes, "never": np.full(300, np.nan)})
    assert found.unsteady is None
    assert found.cut is not None
    assert 30 <= found.cut <= 120


def test_steady_series_are_seldom_called_unsteady() -> None:
    rng = np.random.default_rng(9)
    unsteady = sum(
        steady({name: 100 + rng.normal(0, 20, 200) for name in "abcd"}).unsteady is not None for _ in range(200)
    )
    assert unsteady <= 24  # 5 in 100, and a beginning found too late for a few


def test_a_closed_loop_is_steady() -> None:
    users, trips, bins = 64, 60, 240
    rng = np.random.default_rng(10)
    unsteady = 0
    for _ in range(40):
        ends = np.cumsum(rng.lognormal(-0.35, 0.83, (users, 4 * trips)), axis=1).ravel() - 20
        served = np.histogram(ends, bins, (0, trips))[0].astype(float)
        unsteady += steady({"requests/min": served}).unsteady is not None
    assert unsteady <= 6

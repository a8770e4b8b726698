"""The engine's own pace: found beneath answers of all lengths, and what it does to an interval."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadgen.measure.pace import pace, widened
from loadgen.measure.statistics import Estimate

ESTIMATE = Estimate(40.0, (38.0, 42.0), n=100)


def wandering(n: int, seed: int, coefficient: float, spread: float) -> NDArray[np.float64]:
    """A pace of mean 1 whose neighbours are correlated by a coefficient."""
    rng = np.random.default_rng(seed)
    values = [rng.normal()]
    for _ in range(n - 1):
        values.append(coefficient * values[-1] + np.sqrt(1 - coefficient**2) * rng.normal())
    return 1 + spread * np.array(values)


def answers(relative: Sequence[float] | NDArray[np.float64], seed: int) -> tuple[list[float], list[float]]:
    """Tokens and seconds of answers of all lengths, at a pace."""
    tokens = np.random.default_rng(seed).geometric(1 / 64, len(relative)).astype(float)
    return list(tokens), list((0.2 + 0.02 * tokens) * np.asarray(relative))


def test_the_pace_is_found_beneath_lengths_that_scatter_ten_times_as_much() -> None:
    true = wandering(100, 1, 0.95, 0.05)
    found = pace(*answers(true, 1))
    assert found is not None
    assert np.corrcoef(found, true)[0, 1] > 0.9


@given(st.integers(10, 60), st.integers(0, 99))
def test_an_engine_that_keeps_its_pace_leaves_every_interval_as_it_is(n: int, seed: int) -> None:
    assert widened(ESTIMATE, pace(*answers(np.ones(n), seed))) == ESTIMATE


def test_an_engine_that_wanders_slowly_has_no_interval_from_a_short_run() -> None:
    refused = [widened(ESTIMATE, wandering(100, seed, 0.95, 0.05)).ci95 is None for seed in range(50)]
    assert sum(refused) >= 45


def test_a_long_run_has_one_that_is_wider() -> None:
    low, high = widened(ESTIMATE, wandering(2000, 1, 0.95, 0.05)).ci95 or (0.0, 0.0)
    assert low < 38.0
    assert high > 42.0


def test_noise_that_is_independent_adds_little() -> None:
    kept = [widened(ESTIMATE, wandering(100, seed, 0.0, 0.05)).ci95 for seed in range(50)]
    assert all(ci95 is not None and ci95[0] > 37.0 for ci95 in kept)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_a_few_answers_show_no_pace(n: int) -> None:
    assert pace([1.0] * n, [1.0] * n) is None
    assert widened(ESTIMATE, None) == ESTIMATE

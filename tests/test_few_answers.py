"""Intervals for means of a few answers, and the speed of one user from a few."""

from collections.abc import Sequence
from math import log1p, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadgen.measure.few_answers import (
    FEWEST,
    PACE_ERROR,
    around,
    relative_error,
    students_error,
    tail_factor,
    with_pace,
)
from loadgen.measure.limits import ENOUGH_REQUESTS
from loadgen.measure.pace import pace, widened
from loadgen.measure.quantiles import student
from loadgen.measure.speed import FEWEST_FOR_PACE, Speed, speed
from loadgen.measure.statistics import Estimate, mean

Array = NDArray[np.float64]


def lognormal(rng: np.random.Generator, cv: float, n: int) -> Array:
    """Values of mean 1."""
    sigma = sqrt(log1p(cv**2))
    return rng.lognormal(-(sigma**2) / 2, sigma, n)


def interval(values: Array) -> tuple[float, float]:
    cv = float(values.std(ddof=1) / values.mean())
    return around(float(values.mean()), relative_error(cv, float(np.log(values).var(ddof=1)), len(values)))


@pytest.mark.parametrize("n", [3, 5, 10, 30])
@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, None])
def test_nine_tenths_of_the_intervals_for_a_mean_hold_it_from_three_values_on(cv: float | None, n: int) -> None:
    """Lognormal values, and exponential ones."""
    rng = np.random.default_rng([17, n])
    samples = (rng.exponential(size=n) if cv is None else lognormal(rng, cv, n) for _ in range(1000))
    assert np.mean([low <= 1 <= high for low, high in map(interval, samples)]) >= 0.9


def test_the_bootstrap_of_a_few_values_holds_their_mean_less_often() -> None:
    rng = np.random.default_rng(18)
    found = [mean(list(lognormal(rng, 1.0, 5))) for _ in range(200)]
    held = [e.ci95[0] <= 1 <= e.ci95[1] for e in found if e is not None and e.ci95 is not None]
    assert np.mean(held) < 0.85


def test_of_lognormal_values_it_is_coxs_interval_with_students_t() -> None:
    variance, n = 0.5, 12
    expected = student(11, 0.975) * sqrt(variance / n + variance**2 / 22)
    assert relative_error(sqrt(np.expm1(variance)), variance, n) == pytest.approx(expected)


def test_a_few_tiny_values_do_not_decide() -> None:
    """Their logarithms vary far more than they do."""
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95] * 4)
    with_tiny = np.append(values, 1e-6)
    low, high = interval(with_tiny)
    assert high / low < 2.5


@given(st.floats(0, 3), st.floats(0, 5), st.integers(3, 500))
def test_more_values_make_it_narrower_and_more_variation_wider(cv: float, log_variance: float, n: int) -> None:
    error = relative_error(cv, log_variance, n)
    assert error >= relative_error(cv, log_variance, 2 * n) - 1e-12
    assert error <= relative_error(cv + 0.1, log_variance + 0.1, n) + 1e-12
    low, high = around(5.0, error)
    assert 0 < low <= 5 <= high


def test_the_pace_is_added_in_quadrature() -> None:
    assert with_pace(0.0) == PACE_ERROR
    assert with_pace(PACE_ERROR) == pytest.approx(sqrt(2) * PACE_ERROR)


@given(st.lists(st.floats(0.01, 1e4), min_size=3, max_size=30))
def test_a_tail_never_makes_an_interval_narrower(values: Sequence[float]) -> None:
    assert tail_factor(values) >= 1


def test_equal_values_have_no_tail_and_no_error() -> None:
    assert tail_factor([64.0] * 5) == 1
    assert students_error([64.0] * 5) == 0


# The speed of one user.


def answers(n: int, cv: float = 0.5, noise: float = 0.0, seed: int = 1) -> tuple[list[float], list[float]]:
    """Tokens and seconds of answers that take 0.2 s and then 20 ms a token."""
    rng = np.random.default_rng([seed, n])
    tokens = np.maximum(1, np.round(64 * lognormal(rng, cv, n)))
    seconds = (0.2 + 0.02 * tokens) * (1 + noise * rng.normal(size=n))
    return tokens.tolist(), seconds.tolist()


def width(estimate: Estimate | None) -> float:
    assert estimate is not None
    assert estimate.ci95 is not None
    return (estimate.ci95[1] - estimate.ci95[0]) / 2 / estimate.value


def test_of_no_answer_there_is_no_speed() -> None:
    assert speed([], []) == Speed(None, None, None)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_answers_have_a_speed_without_an_interval_and_say_why(n: int) -> None:
    tokens, seconds = answers(n)
    found = speed(tokens, seconds)
    assert found.mean is not None
    assert found.total is not None
    assert found.mean.value == pytest.approx(np.mean([t / s for t, s in zip(tokens, seconds, strict=True)]))
    assert found.total.value == pytest.approx(sum(tokens) / sum(seconds))
    assert (found.mean.ci95, found.total.ci95, found.mean.n) == (None, None, n)
    assert found.no_interval == f"n is too small: an interval needs {FEWEST} answers"


@pytest.mark.parametrize("n", [FEWEST, FEWEST_FOR_PACE - 1])
def test_with_fewer_than_fifteen_answers_what_a_pace_may_wander_is_part_of_the_interval(n: int) -> None:
    found = speed([64.0] * n, [1.5] * n)
    assert found.no_interval is None
    for estimate in (found.mean, found.total):
        assert estimate is not None
        assert estimate.ci95 == pytest.approx(around(64 / 1.5, PACE_ERROR))


def test_from_fifteen_answers_on_an_engine_that_keeps_its_pace_has_a_narrow_interval() -> None:
    found = speed([64.0] * FEWEST_FOR_PACE, [1.5] * FEWEST_FOR_PACE)
    assert width(found.mean) == pytest.approx(0, abs=1e-9)


def test_an_engine_whose_pace_drifts_has_a_wide_one() -> None:
    drifting = [1.5 * (1 + 0.01 * i) for i in range(20)]
    found = speed([64.0] * 20, drifting)
    assert width(found.total) >= 0.9 * PACE_ERROR


@pytest.mark.parametrize("n", [ENOUGH_REQUESTS + 1, 100])
def test_of_more_than_thirty_answers_the_interval_is_the_bootstraps(n: int) -> None:
    tokens, seconds = answers(n, noise=0.02)
    found, plain = speed(tokens, seconds), mean([t / s for t, s in zip(tokens, seconds, strict=True)])
    assert plain is not None
    assert plain.ci95 is not None
    assert found.mean is not None
    as_before = widened(plain, pace(tokens, seconds))
    assert found.mean.ci95 is None or width(found.mean) >= width(as_before) - 1e-12


def test_a_pace_that_changes_too_slowly_for_the_run_is_said_so() -> None:
    seconds = [1.5 * (1 + 0.1 * np.sin(i / 15)) for i in range(100)]
    found = speed([64.0] * 100, seconds)
    assert found.mean is not None
    assert found.mean.ci95 is None
    assert found.no_interval == "the engine's pace changed too slowly for a run of this length"


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0.01, 100)), min_size=3, max_size=30), st.floats(0.01, 100))
def test_an_interval_holds_its_value_and_scales_with_it(pairs: list[tuple[int, float]], factor: float) -> None:
    tokens, seconds = [float(t) for t, _ in pairs], [s for _, s in pairs]
    found, slower = speed(tokens, seconds), speed(tokens, [factor * s for s in seconds])
    for estimate, other in ((found.mean, slower.mean), (found.total, slower.total)):
        assert estimate is not None
        assert other is not None
        assert estimate.ci95 is not None
        assert estimate.ci95[0] <= estimate.value * (1 + 1e-9)
        assert estimate.value <= estimate.ci95[1] * (1 + 1e-9)
        assert other.value * factor == pytest.approx(estimate.value)


@given(st.integers(3, 30), st.integers(0, 99))
def test_no_speed_is_below_zero(n: int, seed: int) -> None:
    found = speed(*answers(n, cv=3.0, noise=0.1, seed=seed))
    for estimate in (found.mean, found.total):
        assert estimate is not None
        assert estimate.ci95 is not None
        assert estimate.ci95[0] >= 0

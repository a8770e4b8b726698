"""Intervals of dependent values: what they hold, and what is refused."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadgen.measure import intervals
from loadgen.measure.few_answers import PACE_ERROR, around
from loadgen.measure.intervals import (
    SMALLEST_EFFECTIVE,
    distribution_of_series,
    effective_sample_size,
    in_order,
    mean_of_series,
    narrow_enough,
    quantile_of_series,
    share,
)
from loadgen.measure.statistics import (
    QUANTILES,
    SMALLEST_SAMPLE,
    Distribution,
    fewest_values,
    mean,
    percentile,
    smallest_sample,
)

Array = NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)
factors = st.floats(1e-3, 1e3)
shifts = st.floats(-100, 100)


def autoregressive(rng: np.random.Generator, rho: float, n: int) -> Array:
    """x_t = rho x_(t-1) + noise, stationary, variance 1: n_eff is n (1 - rho) / (1 + rho)."""
    from scipy.signal import lfilter

    noise = rng.normal(0, np.sqrt(1 - rho**2), n)
    start = rng.normal()
    return np.asarray(lfilter([1], [1, -rho], noise, zi=[rho * start])[0])


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_effective_size_of_an_autoregression_is_the_known_one(rho: float) -> None:
    rng = np.random.default_rng(1)
    found = [effective_sample_size(autoregressive(rng, rho, 20_000)) for _ in range(40)]
    assert np.median(found) == pytest.approx(20_000 * (1 - rho) / (1 + rho), rel=0.25)


def test_a_slow_wave_beneath_noise_counts() -> None:
    rng = np.random.default_rng(2)
    wave = autoregressive(rng, 0.999, 50_000)
    hidden = 0.3 * wave + rng.normal(size=50_000)
    # Of the mean's variance, 0.09 * 2000 of 1 + 0.09 * 2000 parts are the wave's.
    assert effective_sample_size(hidden) < 50_000 / 50


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.9999])
def test_a_long_series_has_the_effective_size_that_it_has_in_one_piece(rho: float) -> None:
    at_once = 1 << 20
    x = autoregressive(np.random.default_rng(4), rho, at_once + 8)
    if rho > 0.99:
        x += np.random.default_rng(5).normal(size=len(x))
    for values in (x, x > x.mean()):
        assert effective_sample_size(values) == pytest.approx(effective_sample_size(values[:at_once]), rel=1e-3)


@given(seeds, factors, shifts)
def test_neither_scale_nor_origin_changes_the_effective_size(seed: int, factor: float, shift: float) -> None:
    x = autoregressive(np.random.default_rng(seed), 0.6, 300)
    assert effective_sample_size(factor * x + shift) == pytest.approx(effective_sample_size(x), rel=1e-3)


@given(seeds, st.integers(0, 400), st.floats(-0.9, 0.99))
def test_no_value_counts_twice(seed: int, n: int, rho: float) -> None:
    n_eff = effective_sample_size(autoregressive(np.random.default_rng(seed), rho, n))
    assert 0 <= n_eff <= n
    assert n_eff > 0 or n == 0


@given(st.floats(-1e6, 1e6), st.integers(1, 500))
def test_what_never_changes_is_known(value: float, n: int) -> None:
    series = np.full(n, value)
    assert effective_sample_size(series) == n
    estimate = mean_of_series(series)
    assert estimate is not None
    assert estimate.value == pytest.approx(value)
    assert (estimate.ci95 is None) == (n < 30)
    if estimate.ci95 is not None:
        assert estimate.ci95 == pytest.approx((value, value))


@given(seeds, factors, shifts)
def test_intervals_scale_and_shift_with_their_values(seed: int, factor: float, shift: float) -> None:
    x = np.random.default_rng(seed).exponential(size=1500)
    for estimate in (mean_of_series, lambda v: quantile_of_series(v, 0.9)):
        plain, moved = estimate(x), estimate(factor * x + shift)
        assert plain is not None
        assert moved is not None
        assert (plain.ci95 is None) == (moved.ci95 is None)
        if plain.ci95 is not None and moved.ci95 is not None:
            assert moved.ci95 == pytest.approx([factor * v + shift for v in plain.ci95], rel=1e-6, abs=1e-6)


@given(seeds)
def test_an_interval_holds_its_own_estimate(seed: int) -> None:
    x = np.random.default_rng(seed).exponential(size=2000)
    for estimate in (mean_of_series(x), quantile_of_series(x, 0.5), quantile_of_series(x, 0.95)):
        assert estimate is not None
        if estimate.ci95 is not None and estimate.value is not None:
            assert estimate.ci95[0] <= estimate.value <= estimate.ci95[1]


def test_skew_moves_an_interval_to_the_side_of_the_long_tail() -> None:
    parts = np.array([1.0] * 9 + [3.0])
    low, high = intervals._around(1.2, parts)
    assert high - 1.2 > 2 * (1.2 - low)
    mirrored = intervals._around(-1.2, -parts)
    assert mirrored == pytest.approx((-high, -low))


def test_the_straightening_solves_halls_cubic() -> None:
    for a in (-0.14, -0.01, 0.05, 0.14):
        x = intervals._straightened(2.262, a)
        assert x + a * (2 * x**2 + 1) + 4 / 3 * a**2 * x**3 == pytest.approx(2.262)
    assert intervals._straightened(2.262, 0.0) == 2.262


def test_an_interval_of_independent_values_is_widened_or_refused_where_neighbours_are_alike() -> None:
    rng = np.random.default_rng(4)
    independent, alike = rng.normal(100, 5, 1000), 100 + autoregressive(rng, 0.6, 1000)
    for x, least, most in ((independent, 1.0, 1.6), (alike, 1.6, 3.5)):
        plain = mean(list(x))
        assert plain is not None
        found = in_order(plain, x)
        assert plain.ci95 is not None
        assert found.ci95 is not None
        assert found.value == plain.value
        assert least <= (found.ci95[1] - found.ci95[0]) / (plain.ci95[1] - plain.ci95[0]) <= most
    slow = np.sin(np.arange(100) / 15)
    slow_mean = mean(list(slow))
    assert slow_mean is not None
    assert in_order(slow_mean, slow).ci95 is None


def test_of_nothing_there_is_no_mean() -> None:
    assert mean_of_series([]) is None
    assert not narrow_enough([], 0.5)
    assert msgspec.to_builtins(distribution_of_series([])) == {"n": 0}


def test_a_series_that_stays_correlated_has_a_mean_without_an_interval() -> None:
    drifting = np.arange(1000.0)
    estimate = mean_of_series(drifting)
    assert estimate is not None
    assert estimate.value == pytest.approx(499.5)
    assert estimate.ci95 is None


def test_batches_hold_the_mean_of_an_autoregression_where_independence_does_not() -> None:
    rng = np.random.default_rng(3)
    ours, theirs = [], []
    for _ in range(200):
        x = autoregressive(rng, 0.9, 2000)  # n_eff 105
        estimate = mean_of_series(x)
        assert estimate is not None
        if estimate.ci95 is not None:
            ours.append(estimate.ci95[0] <= 0 <= estimate.ci95[1])
        half = 1.96 * float(x.std()) / np.sqrt(len(x))
        theirs.append(abs(float(x.mean())) <= half)
    assert np.mean(theirs) < 0.5
    assert len(ours) > 100
    assert np.mean(ours) >= 0.9


def test_sections_hold_quantiles_of_an_autoregression_where_independence_does_not() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(4)
    for quantile, at_least in ((0.5, 0.9), (0.95, 0.9)):
        ours, theirs = [], []
        truth = float(norm.ppf(quantile))
        for _ in range(150):
            x = autoregressive(rng, 0.9, 20_000)  # n_eff 1050
            found = quantile_of_series(x, quantile)
            if found.ci95 is not None:
                ours.append(found.ci95[0] <= truth <= found.ci95[1])
            spread = 1.96 * np.sqrt(len(x) * quantile * (1 - quantile))
            ordered = np.sort(x)
            low, high = (ordered[int(len(x) * quantile + sign * spread)] for sign in (-1, 1))
            theirs.append(low <= truth <= high)
        assert np.mean(theirs) < 0.8
        assert len(ours) > 120
        assert np.mean(ours) >= at_least


@pytest.mark.parametrize(("name", "n"), SMALLEST_SAMPLE.items())
def test_independent_values_need_as_many_as_the_table_says(name: str, n: int) -> None:
    assert fewest_values(QUANTILES[name]) == n
    assert (smallest_sample(QUANTILES[name]) == n) is (name != "p50")


def test_a_median_has_a_value_from_two_values_on_and_an_interval_from_six() -> None:
    x = np.random.default_rng(12).exponential(size=6)
    for n in range(2, 6):
        found = quantile_of_series(x[:n], 0.5)
        assert (found.value, found.ci95) == (np.sort(x[:n])[n // 2], None)
    assert quantile_of_series(x, 0.5).ci95 == (x.min(), x.max())  # P = 1 - 2 / 2^6
    assert quantile_of_series(x[:1], 0.5).value is None


def test_the_interval_of_a_median_of_few_values_includes_what_a_pace_may_wander() -> None:
    assert quantile_of_series([100.0] * 8, 0.5).ci95 == pytest.approx(around(100.0, PACE_ERROR))
    assert quantile_of_series([-1.0] * 8, 0.5).ci95 == (-1.0, -1.0)
    assert quantile_of_series([100.0] * 250, 0.5).ci95 == (100.0, 100.0)


@pytest.mark.parametrize(("m", "ranks"), [(6, (1, 6)), (9, (2, 8)), (20, (6, 15)), (50, (18, 33))])
def test_the_interval_of_a_median_is_that_of_the_tables_of_the_sign_test(m: int, ranks: tuple[int, int]) -> None:
    assert intervals._around_median(np.arange(1.0, m + 1), m) == ranks


@given(st.integers(6, 83), st.integers(3, 20))
def test_dependent_values_give_a_median_as_wide_an_interval_as_a_third_of_those_that_they_are_worth(
    m: int, times: int
) -> None:
    alike = np.repeat(np.arange(1.0, m + 1), 3 * times)
    assert intervals._around_median(alike, 3 * m) == intervals._around_median(np.arange(1.0, m + 1), m)


def test_dependent_values_that_are_worth_few_give_a_median_no_interval() -> None:
    x = np.arange(100.0)
    assert intervals._around_median(x, 5.9) is None
    assert intervals._around_median(x, 17.9) is None
    assert intervals._around_median(x, 18.0) == (0.0, 99.0)


@pytest.mark.parametrize(("rho", "n"), [(0.0, 10), (0.0, 60), (0.5, 60), (0.8, 400)])
def test_ranks_hold_the_median_of_few_values(rho: float, n: int) -> None:
    rng = np.random.default_rng(13)
    found = [quantile_of_series(np.exp(autoregressive(rng, rho, n)), 0.5).ci95 for _ in range(300)]
    printed = [ci95 for ci95 in found if ci95 is not None]
    assert len(printed) > 100
    assert np.mean([low <= 1.0 <= high for low, high in printed]) >= 0.9


def test_the_value_of_a_quantile_is_that_of_all_values() -> None:
    x = np.random.default_rng(5).exponential(size=3000)
    assert quantile_of_series(x, 0.95).value == percentile(list(x), 0.95)


def test_a_tail_is_not_told_from_dependent_values_and_is_from_as_many_independent_ones() -> None:
    rng = np.random.default_rng(6)
    dependent = quantile_of_series(autoregressive(rng, 0.98, 5000), 0.99)  # n_eff 50
    assert (dependent.value, dependent.ci95) == (None, None)
    assert dependent.n == 5000
    assert dependent.n_eff < SMALLEST_EFFECTIVE
    assert quantile_of_series(rng.normal(size=5000), 0.99).ci95 is not None


def test_the_p99_of_few_clusters_has_no_interval() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=20_000)
    for at in (3000, 9000, 14_000):  # all that is beyond the p99 came in three bursts
        x[at : at + 70] += 10
    found = quantile_of_series(x, 0.99)
    assert found.ci95 is None
    assert quantile_of_series(x, 0.5).ci95 is not None


def test_a_distribution_names_what_it_cannot_tell_and_is_plain_json() -> None:
    x = np.random.default_rng(8).exponential(size=120)
    found = distribution_of_series(x)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Distribution) == found
    assert found.n == 120
    assert found.not_resolvable == ["p95", "p99"]
    assert found.needs == {"p95": 250, "p99": 368}
    as_json = msgspec.to_builtins(found)
    assert json.loads(json.dumps(as_json)) == json.loads(msgspec.json.encode(found))
    assert {"mean", "p50"} <= set(as_json)
    assert not {"p95", "p99"} & set(as_json)
    assert (found.p95, found.p99, found.interval("p95")) == (None, None, None)
    assert found.ci95 is not None
    assert set(found.ci95) <= {"mean", "p50"}
    full = distribution_of_series(np.random.default_rng(9).exponential(size=4000))
    assert (full.not_resolvable, full.needs) == ([], {})
    assert full.ci95 is not None
    assert set(full.ci95) == {"mean", "p50", "p90", "p95", "p99"}


def test_a_share_is_wilsons() -> None:
    estimate = share(99, 100, 100)  # E. B. Wilson: [94.6, 99.8] %
    assert estimate.value == 0.99
    assert estimate.ci95 == pytest.approx((0.9455, 0.9982), abs=1e-4)
    assert share(100, 100, 100).ci95 == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert share(0, 100, 100).ci95 == pytest.approx((0.0, 0.0370), abs=1e-4)


@given(st.integers(1, 500), st.floats(0, 1), st.floats(1, 500))
def test_fewer_effective_values_widen_a_share(n: int, part: float, n_eff: float) -> None:
    good = round(part * n)
    wide, narrow = share(good, n, n_eff).ci95, share(good, n, 2 * n_eff).ci95
    assert wide is not None
    assert narrow is not None
    assert wide[1] - wide[0] >= narrow[1] - narrow[0]
    assert 0 <= wide[0] <= good / n + 1e-9
    assert good / n - 1e-9 <= wide[1] <= 1


def test_one_narrow_look_does_not_end_a_measurement() -> None:
    rng = np.random.default_rng(10)
    steady = rng.normal(100, 2, 600)
    assert narrow_enough(steady, 0.01)
    assert not narrow_enough(steady[:30], 0.01)
    assert not narrow_enough(steady, 0.0001)
    late = np.concatenate([np.full(300, 100.0) + rng.normal(0, 0.1, 300), rng.normal(100, 10, 100)])
    assert not narrow_enough(late, 0.005)


def test_independent_values_have_nearly_the_interval_of_the_bootstrap() -> None:
    x = np.random.default_rng(11).normal(50, 5, 1000)
    ours, theirs = mean_of_series(x), mean(list(x))
    assert ours is not None
    assert theirs is not None
    assert ours.ci95 is not None
    assert theirs.ci95 is not None
    assert (ours.ci95[1] - ours.ci95[0]) / (theirs.ci95[1] - theirs.ci95[0]) == pytest.approx(1.15, abs=0.6)


def test_an_interval_of_what_is_never_negative_is_not_negative() -> None:
    rng = np.random.default_rng(5)
    bursts = np.concatenate([rng.exponential(scale, 500) for scale in (0.01, 0.02, 0.01, 0.02, 0.01, 20, 0.01) * 2])
    found = [quantile_of_series(bursts, 0.9).ci95, quantile_of_series(bursts, 0.95).ci95]
    whole = mean_of_series(bursts)
    found += [] if whole is None else [whole.ci95]
    known = [ci95 for ci95 in found if ci95 is not None]
    assert known
    assert all(low >= 0 for low, _ in known)
    assert any(low == 0 for low, _ in known)
    shifted = quantile_of_series(bursts - 100, 0.95).ci95
    assert shifted is None or shifted[0] < -100

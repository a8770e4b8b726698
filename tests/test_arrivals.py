"""Schedules of an open loop: names that tell the truth, and one schedule for any number of workers."""

from fractions import Fraction
from itertools import chain, islice, pairwise, takewhile
from statistics import fmean, pstdev
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import SECOND
from loadgen.scenario import ArrivalProcess
from loadgen.workload.arrivals import BLOCK, schedule, shard

N = 40_000

processes = st.sampled_from(get_args(ArrivalProcess))
rates = st.floats(0.01, 10_000)
cvs = st.floats(0.05, 5)
seeds = st.integers(-(2**63), 2**63)


@pytest.mark.parametrize("rate", [0.01, 7.3, 10_000])
@pytest.mark.parametrize(
    ("process", "asked", "cv"),
    [
        ("constant", 0.0, 0.0),
        ("poisson", 1.0, 1.0),
        ("poisson", 3.0, 1.0),  # a cv is the gamma process's
        ("gamma", 0.2, 0.2),
        ("gamma", 1.0, 1.0),
        ("gamma", 3.0, 3.0),
    ],
)
def test_gaps_have_the_mean_and_the_cv_that_the_name_promises(
    process: ArrivalProcess, asked: float, cv: float, rate: float
) -> None:
    times = list(islice(schedule(process, rate, asked, seed=7), N))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    # Four standard errors of gamma gaps; 1e-4 is for whole nanoseconds in gaps of 100 µs.
    assert fmean(gaps) == pytest.approx(SECOND / rate, rel=4 * cv / N**0.5 + 1e-4)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, abs=4 * cv * ((1 + cv**2) / (2 * N)) ** 0.5 + 1e-4)


def test_exponential_gaps_are_exponential() -> None:
    from scipy.stats import kstest

    times = list(islice(schedule("poisson", 50, 1, seed=7), 20_000))
    assert kstest(np.diff([0, *times]) / SECOND, "expon", args=(0, 1 / 50)).pvalue > 0.01


@pytest.mark.parametrize("cv", [0.4, 1.8])
def test_gamma_gaps_are_gamma(cv: float) -> None:
    from scipy.stats import kstest

    rate = 0.01  # at high rates many gaps of a burst are below a nanosecond
    times = list(islice(schedule("gamma", rate, cv, seed=7), 20_000))
    shape = 1 / cv**2
    assert kstest(np.diff([0, *times]) / SECOND, "gamma", args=(shape, 0, 1 / (rate * shape))).pvalue > 0.01


def test_arrivals_of_different_blocks_are_as_independent_as_those_of_one() -> None:
    gaps = np.diff(list(islice(schedule("poisson", 50, 1, seed=7), 3 * BLOCK))).astype(float)
    first, second = gaps[:BLOCK], gaps[BLOCK : 2 * BLOCK]
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / BLOCK**0.5


@given(rate=rates, k=st.integers(0, 2_000))
def test_the_kth_constant_arrival_is_at_k_over_the_rate(rate: float, k: int) -> None:
    found = next(islice(schedule("constant", rate, 0, 1), k, None))
    exact = k * SECOND / Fraction(str(rate))
    assert exact - 1 < found <= exact


@pytest.mark.parametrize("rate", [0.01, 0.1, 3.0, 10_000.0])
def test_constant_arrivals_do_not_drift(rate: float) -> None:
    k = 300_000
    assert next(islice(schedule("constant", rate, 0, 1), k, None)) == k * SECOND * 100 // round(100 * rate)


@pytest.mark.parametrize("rate", [0.01, 10_000.0])
def test_rounding_to_nanoseconds_does_not_add_up(rate: float) -> None:
    n = 25 * BLOCK + 1
    source = schedule("poisson", rate, 1, 3)
    unit = schedule("poisson", 1e-3, 1, 3)  # the same gaps, in which a nanosecond is less
    found, reference = (next(islice(times, n, None)) for times in (source, unit))
    assert found == pytest.approx(reference * 1e-3 / rate, rel=1e-12, abs=2)


@given(process=processes, rate=rates, cv=cvs, seed=seeds, workers=st.integers(1, 40))
def test_all_shards_together_are_the_schedule_whatever_their_number(
    process: ArrivalProcess, rate: float, cv: float, seed: int, workers: int
) -> None:
    n = 400
    whole = list(enumerate(islice(schedule(process, rate, cv, seed), n)))
    shards = [
        takewhile(lambda arrival: arrival[0] < n, shard(schedule(process, rate, cv, seed), number, workers))
        for number in range(workers)
    ]
    assert sorted(chain.from_iterable(shards)) == whole


@given(process=processes, rate=rates, cv=cvs, seed=seeds, n=st.integers(0, 2 * BLOCK + 3))
def test_a_shorter_schedule_is_the_beginning_of_a_longer_one(
    process: ArrivalProcess, rate: float, cv: float, seed: int, n: int
) -> None:
    longer = list(islice(schedule(process, rate, cv, seed), 2 * BLOCK + 3))
    assert list(islice(schedule(process, rate, cv, seed), n)) == longer[:n]


@given(process=processes, rate=rates, cv=cvs, seed=seeds)
def test_times_never_decrease_and_begin_at_the_epoch(
    process: ArrivalProcess, rate: float, cv: float, seed: int
) -> None:
    times = list(islice(schedule(process, rate, cv, seed), BLOCK + 100))
    assert times[0] >= 0
    assert all(earlier <= later for earlier, later in pairwise(times))


@pytest.mark.parametrize("process", ["poisson", "gamma"])
def test_another_seed_is_another_schedule_with_the_same_rate(process: ArrivalProcess) -> None:
    one, other = (list(islice(schedule(process, 20, 2, seed), N)) for seed in (1, 2))
    assert one != other
    assert one[-1] == pytest.approx(other[-1], rel=8 * 2 / N**0.5)


def test_a_schedule_is_the_same_in_years_to_come() -> None:
    """Hosts with other versions of numpy follow the same one."""
    poisson, gamma = (islice(schedule(process, 100, 2, 42), 4) for process in ("poisson", "gamma"))
    assert list(poisson) == pytest.approx([25750407, 62477428, 66553120, 83601045], abs=1)
    assert list(gamma) == pytest.approx([48101242, 48603425, 48604821, 56640525], abs=1)

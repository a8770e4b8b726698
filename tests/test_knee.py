"""The knee, against closed forms and under noise."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.measure.knee import Knee, Step, best, grew, knee
from loadgen.measure.statistics import Estimate

DOUBLED = [2**i for i in range(12)]
A, B = 20.0, 1.0  # X = N / (A + B N)
R, X_MAX = 2.0, 6.0  # X = min(N / R, X_MAX)
UNSURE: list[Step] = [(8, 80.0, (79, 81)), (16, 95.5, (93, 98)), (32, 100.0, (98, 102)), (64, 100.0, (98, 102))]
"""The second step may have reached 95 % of the highest or not."""


def saturating(n: float) -> float:
    return n / (A + B * n)


def limited(n: float) -> float:
    return min(n / R, X_MAX)


def curve(
    x: Callable[[float], float], users: Sequence[int], half_width: float | None = None, noise: int | None = None
) -> list[Step]:
    """Steps with intervals of a share ``half_width`` of each value, and normal noise that they cover to 95 %."""
    rng = np.random.default_rng(noise)
    steps: list[Step] = []
    for n in users:
        value = x(n)
        if noise is not None and half_width is not None:
            value *= 1 + rng.normal() * half_width / 1.96
        ci95 = None if half_width is None else (value * (1 - half_width), value * (1 + half_width))
        steps.append((n, value, ci95))
    return steps


def found(steps: Sequence[Step]) -> Knee:
    result = knee(steps)
    assert result is not None
    return result


def test_the_best_step_is_the_first_of_the_highest() -> None:
    assert best([(1, 1.0, None), (2, 3.0, None), (4, 3.0, None), (8, 2.0, None)]) == 1


@pytest.mark.parametrize(
    ("new", "half_widths", "expected"),
    [
        (103.1, (0.0, 0.0), True),
        (103.0, (0.0, 0.0), False),  # not more than 3 %
        (110.0, (3.0, 4.0), True),
        (105.1, (3.0, 4.0), True),  # sqrt(9 + 16) = 5
        (105.0, (3.0, 4.0), False),
        (90.0, (0.0, 0.0), False),
    ],
)
def test_throughput_grew_where_it_rose_by_more_than_three_percent_and_than_chance(
    new: float, half_widths: tuple[float, float], *, expected: bool
) -> None:
    estimates = [
        Estimate(value, (value - h, value + h), 10) for value, h in zip((100.0, new), half_widths, strict=True)
    ]
    assert grew(estimates[0], estimates[1]) is expected


def test_an_interval_that_is_missing_explains_no_growth_away() -> None:
    assert grew(Estimate(100, None, 1), Estimate(104, None, 1))
    assert not grew(Estimate(100, None, 1), Estimate(104, None, 1), threshold=0.05)


def test_one_step_a_user_gives_the_knee_of_a_saturating_engine() -> None:
    users = range(1, 4_001)
    highest = saturating(4_000)
    result = found(curve(saturating, users))
    assert result.concurrency == pytest.approx(0.95 * A * highest / (1 - 0.95 * B * highest), abs=0.001)
    assert result.highest == highest
    assert result.per_user == 1 / (A + B)
    assert result.operational == pytest.approx(highest * (A + B))


def test_doubled_steps_bracket_the_knee_of_a_saturating_engine() -> None:
    highest = saturating(DOUBLED[-1])
    exact = 0.95 * A * highest / (1 - 0.95 * B * highest)
    result = found(curve(saturating, DOUBLED))
    assert result.between == (256, 512)
    assert 256 < exact < result.concurrency < 512  # the curve bends above the line


def test_the_knee_of_a_batch_limited_engine_is_at_its_limit() -> None:
    result = found(curve(limited, [1, 2, 4, 8, 12, 16, 32]))
    assert result.concurrency == pytest.approx(0.95 * X_MAX * R)
    assert result.between == (8, 12)
    assert result.operational == X_MAX * R
    assert (result.per_user, result.highest) == (1 / R, X_MAX)
    assert result.ci95 is None  # no step had one


def test_no_throughput_exceeds_the_bounds() -> None:
    users = [1, 2, 4, 8, 12, 16, 32]
    for x in (limited, saturating):
        result = found(curve(x, [*users, 1_000, 2_000]))
        assert all(x(n) <= result.bound(n) + 1e-12 for n in users)
    assert [found(curve(limited, users)).bound(n) for n in (3, 12, 50)] == [1.5, 6, 6]


def test_throughput_that_falls_again_has_its_knee_before_the_best_step() -> None:
    result = found([(1, 10.0, None), (2, 20.0, None), (4, 30.0, None), (8, 25.0, None), (16, 20.0, None)])
    assert result.concurrency == pytest.approx(2 + 2 * 8.5 / 10)
    assert result.between == (2, 4)


def test_steps_may_come_in_any_order() -> None:
    steps = curve(limited, [1, 2, 4, 8, 12, 16, 32], 0.01)
    assert knee(steps[::-1]) == knee(steps)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [(1, 1.0, None), (2, 1.0, None)],
        [(1, 1.0, None), (2, 2.0, None), (4, 4.0, None)],
        [(1, 4.0, (3.9, 4.1)), (2, 4.0, (3.9, 4.1)), (4, 4.2, (4.1, 4.3))],
        [(1, 0.0, None), (2, 0.0, None), (4, 0.0, None)],
    ],
    ids=["none", "two", "growing", "growing again", "nothing served"],
)
def test_there_is_no_knee(steps: list[Step]) -> None:
    assert knee(steps) is None


def test_growth_at_the_last_step_that_chance_explains_is_none() -> None:
    assert knee([(1, 4.0, (3.9, 4.1)), (2, 4.0, (3.9, 4.1)), (4, 4.2, (3.9, 4.5))]) is not None


def test_the_intervals_of_the_steps_become_one_of_the_knee() -> None:
    users = [1, 2, 4, 8, 10, 12, 14, 16, 32]
    narrow, wide = (found(curve(limited, users, half_width)) for half_width in (0.005, 0.02))
    assert narrow.ci95 is not None
    assert wide.ci95 is not None
    assert wide.ci95[0] < narrow.ci95[0] < narrow.concurrency == wide.concurrency < narrow.ci95[1] < wide.ci95[1]


def test_a_step_that_may_or_may_not_have_reached_it_is_between() -> None:
    result = found(UNSURE)
    assert 8 < result.concurrency < 16
    assert result.between == (8, 32)
    assert result.ci95 is not None
    assert result.ci95[0] < result.concurrency < 16 < result.ci95[1] < 32


def test_a_knee_at_the_first_step_is_a_bound_from_above() -> None:
    result = found(curve(lambda _: 5.0, [8, 16, 32], 0.01))
    assert result.concurrency == 8
    assert result.between == (0, 8)
    assert result.ci95 == (0.0, 8.0)
    assert result.text == "throughput reaches 95 % of its highest at 8 users or fewer"


def test_the_text_says_where_and_how_well_that_is_known() -> None:
    users = [1, 2, 4, 8, 12, 16, 32]
    assert found(curve(limited, users)).text == (
        "throughput reaches 95 % of its highest between 8 and 12 users; on a line between the steps at 11.4"
    )
    assert found(UNSURE).text == (
        "throughput reaches 95 % of its highest between 8 and 32 users; on a line between the steps at 15.7 "
        "(95 % interval of the noise: 14.2 to 21.5)"
    )


def test_a_knee_becomes_json() -> None:
    assert set(asdict(found(curve(limited, [1, 8, 16, 32])))) == {
        "concurrency", "ci95", "between", "highest", "per_user", "operational", "text",
    }  # fmt: skip


@pytest.mark.parametrize("half_width", [0.01, 0.03])
@pytest.mark.parametrize(
    ("x", "users"), [(saturating, DOUBLED), (limited, [1, 2, 4, 8, 16, 32, 64]), (limited, [2, 6, 9, 12, 15, 18])]
)
def test_the_interval_covers_the_knee_without_noise(
    x: Callable[[float], float], users: Sequence[int], half_width: float
) -> None:
    truth = found(curve(x, users)).concurrency
    knees = [knee(curve(x, users, half_width, noise)) for noise in range(400)]
    intervals = [k.ci95 for k in knees if k is not None and k.ci95 is not None]
    assert len(intervals) > 350
    covered = sum(low <= truth <= high for low, high in intervals)
    assert covered >= 0.9 * len(intervals)


values = st.floats(0.1, 100)


@given(
    values=st.lists(values, min_size=3, max_size=8),
    arms=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), min_size=8, max_size=8),
)
def test_the_knee_lies_in_its_interval_and_that_between_two_steps(
    values: list[float], arms: list[tuple[float, float]]
) -> None:
    steps: list[Step] = [
        (2**i, value, (value - below, value + above))
        for i, (value, (below, above)) in enumerate(zip(values, arms, strict=False))
    ]
    result = knee(steps)
    if result is None:
        return
    assert result.ci95 is not None
    low, high = result.ci95
    assert low <= result.concurrency + 1e-9
    assert result.concurrency <= high + 1e-9
    assert result.between[0] <= low + 1e-9
    assert high <= result.between[1] + 1e-9

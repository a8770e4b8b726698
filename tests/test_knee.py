"""The knee, against closed forms and under noise."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.measure.knee import Knee, Step, best, grew, knee, plateau
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


def test_a_missing_interval_counts_as_a_wide_one() -> None:
    assert not grew(Estimate(100, None, 1), Estimate(120, None, 1))
    assert grew(Estimate(100, None, 1), Estimate(130, None, 1))
    assert not grew(Estimate(100, None, 1), Estimate(130, None, 1), threshold=0.35)


def test_a_wider_interval_counts_as_no_wider_than_a_missing_one() -> None:
    few, more = Estimate(100, (30, 330), 3), Estimate(200, (90, 440), 6)
    assert grew(few, more)
    assert not grew(few, Estimate(115, (60, 220), 6))


def test_one_step_a_user_gives_the_knee_of_a_saturating_engine() -> None:
    users = range(1, 4_001)
    highest = saturating(4_000)
    result = found(curve(saturating, users, 0.0))
    exact = 0.95 * A * highest / (1 - 0.95 * B * highest)
    assert result.between == (floor(exact), ceil(exact))
    assert result.highest == pytest.approx(highest, rel=1e-3)
    assert result.per_user == 1 / (A + B)
    assert result.operational == pytest.approx(highest * (A + B), rel=1e-3)


def test_doubled_steps_bracket_the_knee_of_a_saturating_engine() -> None:
    highest = saturating(DOUBLED[-1])
    exact = 0.95 * A * highest / (1 - 0.95 * B * highest)
    assert found(curve(saturating, DOUBLED, 0.001)).between == (256, 512)
    wide = found(curve(saturating, DOUBLED)).between  # without intervals more of the steps may have reached it
    assert wide[0] < 256 < exact < 512 < wide[1]


def test_the_knee_of_a_batch_limited_engine_is_at_its_limit() -> None:
    result = found(curve(limited, [1, 2, 4, 8, 12, 16, 32], 0.01))
    assert result.between == (8, 12)
    assert result.operational == pytest.approx(X_MAX * R)
    assert result.per_user == 1 / R
    assert result.highest == pytest.approx(X_MAX)


def test_no_throughput_exceeds_the_bounds() -> None:
    users = [1, 2, 4, 8, 12, 16, 32]
    for x in (limited, saturating):
        result = found(curve(x, [*users, 1_000, 2_000]))
        assert all(x(n) <= result.bound(n) + 1e-12 for n in users)
    assert [found(curve(limited, users)).bound(n) for n in (3, 12, 50)] == [1.5, 6, 6]


def test_throughput_that_falls_again_has_its_knee_before_the_best_step() -> None:
    values = {1: 10.0, 2: 20.0, 4: 30.0, 8: 25.0, 16: 20.0}
    assert found(curve(values.__getitem__, list(values), 0.01)).between == (2, 4)


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


def test_a_step_that_may_or_may_not_have_reached_it_is_between() -> None:
    assert found(UNSURE).between == (8, 32)


def test_a_knee_at_the_first_step_is_a_bound_from_above() -> None:
    result = found(curve(lambda _: 5.0, [8, 16, 32], 0.01))
    assert result.between == (0, 8)
    assert result.text == "throughput reaches 95 % of its highest at 8 users or fewer"


def test_the_text_names_the_two_steps_and_nothing_between_them() -> None:
    users = [1, 2, 4, 8, 12, 16, 32]
    assert found(curve(limited, users, 0.01)).text == "throughput reaches 95 % of its highest between 8 and 12 users"


def test_the_best_of_several_alike_is_too_high_and_their_mean_is_so_by_a_third_of_that() -> None:
    steps = [curve(limited, [4, 12, 24, 48], 0.0196, noise) for noise in range(400)]  # a standard deviation of 1 %
    means, highest = [plateau(s).value / X_MAX for s in steps], [max(v for _, v, _ in s) / X_MAX for s in steps]
    assert np.mean(highest) > 1.006
    assert np.mean(means) == pytest.approx(1, abs=0.004)  # a step far below the best is left out, by chance too
    held = [low <= X_MAX <= high for s in steps for low, high in [plateau(s).ci95 or (0, 0)]]
    assert sum(held) >= 0.92 * len(held)


def test_a_plateau_is_of_the_steps_with_an_interval_unless_others_are_clearly_higher() -> None:
    steps: list[Step] = [(1, 50.0, (49, 51)), (2, 100.0, (99, 101)), (4, 108.0, None), (8, 100.4, (99, 102))]
    assert plateau(steps).steps == (1, 3)
    assert plateau([*steps[:2], (4, 140.0, None)]).steps == (2,)
    assert plateau([(n, value, None) for n, value, _ in steps]).steps == (2,)
    assert plateau([(n, value, None) for n, value, _ in steps]).ci95 is None


def test_a_knee_becomes_json() -> None:
    assert set(asdict(found(curve(limited, [1, 8, 16, 32])))) == {
        "between", "highest", "per_user", "operational", "text",
    }  # fmt: skip


@pytest.mark.parametrize("half_width", [0.01, 0.03, None])
@pytest.mark.parametrize(
    ("x", "users"), [(saturating, DOUBLED), (limited, [1, 2, 4, 8, 16, 32, 64]), (limited, [2, 6, 9, 12, 15, 18])]
)
def test_the_bracket_holds_the_knee_under_noise(
    x: Callable[[float], float], users: Sequence[int], half_width: float | None
) -> None:
    low, high = found(curve(x, users, 1e-6)).between
    noisy = [curve(x, users, half_width or 0.1, noise) for noise in range(300)]
    if half_width is None:  # a noise of 5 %, of which no step knows
        noisy = [[(n, value, None) for n, value, _ in steps] for steps in noisy]
    brackets = [k.between for steps in noisy if (k := knee(steps)) is not None]
    assert len(brackets) > 250
    assert sum(b[0] <= low and high <= b[1] for b in brackets) >= 0.9 * len(brackets)


values = st.floats(0.1, 100)


@given(
    values=st.lists(values, min_size=3, max_size=8),
    arms=st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), min_size=8, max_size=8),
)
def test_the_knee_lies_between_two_steps_and_its_throughput_is_one_of_them(
    values: list[float], arms: list[tuple[float, float]]
) -> None:
    steps: list[Step] = [
        (2**i, value, (value - below, value + above))
        for i, (value, (below, above)) in enumerate(zip(values, arms, strict=False))
    ]
    result = knee(steps)
    if result is None:
        return
    assert result.between[0] < result.between[1]
    assert result.between[1] in {users for users, _, _ in steps}
    assert min(values) - 1e-9 <= result.highest <= max(values) + 1e-9


def test_a_step_where_throughput_still_grew_is_not_part_of_a_plateau_however_wide_its_interval() -> None:
    steps: list[Step] = [(8, 4100.0, (4000.0, 4200.0)), (16, 4283.0, (4200.0, 4370.0)), (32, 4381.0, (4250.0, 4510.0))]
    steps += [(64, 4431.0, (4200.0, 4660.0)), (128, 4425.0, (4150.0, 4700.0))]
    assert plateau(steps).steps == (2, 3, 4)
    assert plateau(steps).value == pytest.approx(4431, rel=0.01)


def test_the_plateau_of_a_curve_that_flattens_slowly_is_not_too_low() -> None:
    def prefilling(users: float) -> float:  # 40 ms of prefill each, 15 steps of 2 ms and 0.01 ms a user
        return users / (15 * (2 + 0.01 * users) + 40 * users)

    steps = [curve(prefilling, [8, 16, 32, 64], 0.049, noise) for noise in range(400)]  # a standard deviation of 2.5 %
    means = [plateau(s).value / prefilling(64) for s in steps]
    assert np.mean(means) == pytest.approx(1, abs=0.01)

"""Which concurrency comes next in a ramp."""

from collections.abc import Callable

import pytest

from loadgen.measure.doubling import MOST_USERS, DoublingSteps, FixedSteps, StepPolicy
from loadgen.measure.statistics import Estimate


def estimate(value: float, half: float | None = None) -> Estimate:
    return Estimate(value, None if half is None else (value - half, value + half), 100)


def played(plan: StepPolicy, throughput: Callable[[int], Estimate], broken_at: int | None = None) -> list[int]:
    """All steps of a ramp on an engine that gives so much at a concurrency."""
    users: int | None = plan.first
    steps = []
    while users is not None:
        steps.append(users)
        users = plan.after(users, throughput(users), broken=broken_at is not None and users >= broken_at)
    return steps


def test_named_steps_are_played_whatever_is_found() -> None:
    plan = FixedSteps([1, 3, 8])
    assert plan.known_steps == 3
    assert played(plan, lambda _: estimate(10), broken_at=1) == [1, 3, 8]


def test_one_named_step_is_the_only_one() -> None:
    assert played(FixedSteps([16]), lambda _: estimate(10)) == [16]


@pytest.mark.parametrize("limit", [1, 2, 16, 24, 100])
def test_doubling_ends_two_steps_beyond_the_first_that_reached_the_highest(limit: int) -> None:
    steps = played(DoublingSteps(), lambda users: estimate(10.0 * min(users, limit)))
    best = next(users for users in steps if users >= limit)
    assert steps == [2**k for k in range(len(steps))]
    assert steps[-3] == best


def test_nobody_knows_how_many_steps_a_doubling_has() -> None:
    assert DoublingSteps().known_steps is None
    assert DoublingSteps().first == 1


def test_the_steps_that_there_may_be_are_known_beforehand() -> None:
    assert DoublingSteps().possible == [2**k for k in range(15)]
    assert DoublingSteps().possible[-1] == MOST_USERS
    assert FixedSteps([1, 3, 8]).possible == [1, 3, 8]


def test_throughput_that_falls_beyond_its_highest_ends_a_doubling_too() -> None:
    assert played(DoublingSteps(), lambda users: estimate({1: 10, 2: 18, 4: 15}.get(users, 12))) == [1, 2, 4, 8]


def test_a_dip_in_between_is_not_the_end() -> None:
    found = {1: 10, 2: 20, 4: 19, 8: 40, 16: 41, 32: 40}
    assert played(DoublingSteps(), lambda users: estimate(found[users])) == [1, 2, 4, 8, 16, 32]


def test_growth_by_less_than_three_percent_is_none() -> None:
    assert played(DoublingSteps(), lambda users: estimate(100 * 1.02 ** (users.bit_length() - 1))) == [1, 2, 4]


def test_slow_growth_counts_from_the_best_before_so_that_it_cannot_go_on_for_ever() -> None:
    steps = played(DoublingSteps(), lambda users: estimate(100 * 1.01 ** (users.bit_length() - 1)))
    assert steps == [1, 2, 4]


def test_a_rise_that_chance_explains_is_no_growth() -> None:
    assert played(DoublingSteps(), lambda users: estimate(100 + users, half=40.0)) == [1, 2, 4]


@pytest.mark.parametrize("broken_at", [1, 2, 8])
def test_a_doubling_ends_with_the_step_that_breaks_the_limits(broken_at: int) -> None:
    assert played(DoublingSteps(), lambda users: estimate(10.0 * users), broken_at=broken_at)[-1] == broken_at


def test_an_engine_without_end_is_asked_by_so_many_users_at_most() -> None:
    assert played(DoublingSteps(), lambda users: estimate(10.0 * users))[-1] == MOST_USERS

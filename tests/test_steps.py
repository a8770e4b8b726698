"""Parsers of --steps and --precision: values that they accept, and their errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.errors import OptionError
from loadgen.scenario import resolve
from loadgen.steps import MOST_USERS, parse_precision, parse_steps


def test_auto_is_none() -> None:
    assert parse_steps("auto") is None


@pytest.mark.parametrize(
    ("text", "steps"), [("8", (8,)), ("1,2,4,8", (1, 2, 4, 8)), (" 1, 3 ,100000 ", (1, 3, MOST_USERS))]
)
def test_a_list_of_users_is_read(text: str, steps: tuple[int, ...]) -> None:
    assert parse_steps(text) == steps


@given(steps=st.sets(st.integers(1, MOST_USERS), min_size=1, max_size=30).map(sorted))
def test_every_ascending_list_is_read(steps: list[int]) -> None:
    assert parse_steps(",".join(map(str, steps))) == tuple(steps)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1,4,2", "2 comes after 4"),
        ("1,2,2", "2 is there twice"),
        ("2,1,2", "1 comes after 2"),
        ("0,1", "0 users make no requests"),
        ("-1", "-1 users make no requests"),
        ("", "a number is missing"),
        ("1,,2", "a number is missing"),
        ("1,2,", "a number is missing"),
        ("1,two", "'two' is not a whole number"),
        ("1.5", "'1.5' is not a whole number"),
        ("1 2", "'1 2' is not a whole number"),
        ("auto,2", "'auto' is not a whole number"),
        ("1,100001", "100001 users are more than 100000"),
    ],
)
def test_wrong_steps_are_named_with_the_way_out(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"1,2,4,8.*'auto'") as caught:
        parse_steps(text)
    assert str(caught.value).startswith(why)


def test_the_option_of_wrong_steps_is_named() -> None:
    with pytest.raises(OptionError) as caught:
        resolve({"steps": "1,4,2"})
    assert str(caught.value).startswith("--steps '1,4,2': 2 comes after 4; give numbers of concurrent users")


@pytest.mark.parametrize(
    ("text", "share"), [("2%", 0.02), ("0.02", 0.02), (" 2 % ", 0.02), ("0.5%", 0.005), ("99.9%", 0.999)]
)
def test_a_precision_is_a_share_or_percent(text: str, share: float) -> None:
    assert parse_precision(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "0%", "-1%", "1", "2", "100%", "nan", "inf", "nan%"])
def test_a_precision_out_of_range_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be above 0 and below 1 .* 2% or 0\.02"):
        parse_precision(text)
    with pytest.raises(OptionError, match=r"--precision must be above 0 and below 1 .* 2% or 0\.02"):
        resolve({"precision": text})


@pytest.mark.parametrize("text", ["", "%", "2%%", "two", "2 percent"])
def test_a_precision_that_is_no_number_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a share, as in 2% or 0\.02"):
        parse_precision(text)


def test_the_option_of_a_precision_that_is_no_number_is_named() -> None:
    with pytest.raises(OptionError, match=r"--precision must be a share, as in 2% or 0\.02, got '2%%'"):
        resolve({"precision": "2%%"})

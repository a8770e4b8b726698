"""Quantiles of the normal distribution and of Student's t, against scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.measure.quantiles import normal, student


@given(st.integers(1, 3000), st.floats(0.5, 0.9999))
def test_students_quantiles_are_those_of_scipy(degrees: int, probability: float) -> None:
    from scipy.special import stdtrit

    assert student(degrees, probability) == pytest.approx(float(stdtrit(degrees, probability)), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 3, 8, 17, 200])
def test_they_hold_far_out_in_the_tail(degrees: int) -> None:
    from scipy.special import stdtrit

    assert student(degrees, 1 - 1e-8) == pytest.approx(float(stdtrit(degrees, 1 - 1e-8)), rel=1e-6)


@given(st.floats(1e-12, 1 - 1e-12))
def test_normal_quantiles_are_those_of_scipy(probability: float) -> None:
    from scipy.special import ndtri

    assert normal(probability) == pytest.approx(float(ndtri(probability)), rel=1e-9, abs=1e-12)

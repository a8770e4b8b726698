"""Clocks of several hosts, from questions and answers between them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.clock import MS, SECOND
from loadgen.run.clocks import is_far_off, offset
from loadgen.run.messages import ClockReading

NS = st.integers(0, 10 * SECOND)


@given(asked=st.integers(0, 10**18), there=NS, back=NS, true=st.integers(-(10**18), 10**18))
def test_the_true_offset_of_a_clock_lies_within_the_uncertainty(asked: int, there: int, back: int, true: int) -> None:
    found = offset(ClockReading(asked_ns=asked, monotonic_ns=asked + there - true), asked + there + back, 0)
    assert abs(found.monotonic_ns - true) <= found.uncertainty_ns


@given(asked=st.integers(0, 10**18), there=NS, back=NS)
def test_clocks_of_one_machine_are_not_shifted(asked: int, there: int, back: int) -> None:
    found = offset(ClockReading(asked_ns=asked, monotonic_ns=asked + there), asked + there + back, 0)
    assert found.monotonic_ns == 0


@given(there=NS, back=NS, wall_ms=st.integers(-5000, 5000))
def test_a_wall_clock_is_far_off_only_where_it_cannot_be_otherwise(there: int, back: int, wall_ms: int) -> None:
    realtime = 10**18
    answered = ClockReading(asked_ns=0, monotonic_ns=there, realtime_ns=realtime + there + wall_ms * MS)
    found = offset(answered, there + back, realtime + there + back)
    assert abs(found.wall_ms - wall_ms) <= found.uncertainty_ns / MS + 1e-3
    if abs(wall_ms) <= 1000:
        assert not is_far_off(found)


def test_a_clock_an_hour_ahead_is_put_right_and_named_far_off() -> None:
    hour = 3600 * SECOND
    found = offset(ClockReading(asked_ns=0, monotonic_ns=hour + MS, realtime_ns=10**18 + hour), 2 * MS, 10**18 + MS)
    assert (found.monotonic_ns, found.uncertainty_ns) == (-hour, MS)
    assert found.wall_ms == pytest.approx(3_600_000)
    assert is_far_off(found)

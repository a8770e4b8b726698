"""The mergeable histogram: its error, its merges, its wire format."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.measure.histogram import ERROR, SMALLEST, Histogram, Wire
from loadgen.measure.statistics import percentile

positive = st.floats(1e-6, 1e9)
times = st.lists(st.one_of(positive, st.just(0.0), st.floats(-1e3, 0)), max_size=60)
shares = st.floats(0, 1)


def of(*lists: list[float]) -> Histogram:
    histogram = Histogram()
    for values in lists:
        histogram.add(values)
    return histogram


def merged(*histograms: Histogram) -> Histogram:
    result = Histogram()
    for histogram in histograms:
        result.merge(histogram)
    return result


def state(histogram: Histogram) -> tuple[Any, ...]:
    wire = histogram.to_wire()
    return histogram.count, wire.zeros, wire.indices, wire.counts, pytest.approx(wire.total, rel=1e-9, abs=1e-3)


@given(value=positive)
def test_a_value_is_known_to_one_percent(value: float) -> None:
    assert of([value]).quantile(0.5) == pytest.approx(value, rel=ERROR + 1e-12)


@given(values=st.lists(positive, min_size=1, max_size=200), share=shares)
def test_a_quantile_is_that_of_the_values_to_one_percent(values: list[float], share: float) -> None:
    assert of(values).quantile(share) == pytest.approx(percentile(values, share), rel=ERROR + 1e-12)


def test_the_ends_of_a_bucket_are_one_percent_away() -> None:
    values = np.geomspace(1, 1.05, 20_001)
    errors = [of([value]).quantile(0) / value - 1 for value in values]
    assert max(errors) == pytest.approx(ERROR, abs=1e-5)
    assert min(errors) == pytest.approx(-ERROR, abs=1e-5)


@given(a=times, b=times, share=shares)
def test_zeros_and_negatives_come_before_all_others(a: list[float], b: list[float], share: float) -> None:
    values = [*a, *b, 1.0]
    exact = percentile([max(0.0, value) for value in values], share)
    found = of(values).quantile(share)
    assert found == (0 if exact <= SMALLEST else pytest.approx(exact, rel=ERROR + 1e-12))


@given(a=times, b=times)
def test_merging_equals_recording_together(a: list[float], b: list[float]) -> None:
    assert state(merged(of(a), of(b))) == state(of(a, b)) == state(of(a + b))


@given(a=times, b=times, c=times)
def test_merging_knows_no_order(a: list[float], b: list[float], c: list[float]) -> None:
    left = merged(merged(of(a), of(b)), of(c))
    right = merged(of(a), merged(of(b), of(c)))
    assert state(left) == state(right) == state(merged(of(c), of(a), of(b)))


@given(a=times, b=times)
def test_merging_leaves_the_other_as_it_is(a: list[float], b: list[float]) -> None:
    one, other = of(a), of(b)
    one.merge(other)
    one.add([5.0])
    assert state(other) == state(of(b))


@given(values=times)
def test_a_histogram_survives_the_wire(values: list[float]) -> None:
    sent = of(values)
    received = Histogram.from_wire(msgspec.msgpack.decode(msgspec.msgpack.encode(sent.to_wire()), type=Wire))
    assert received.to_wire() == sent.to_wire()
    assert received.count == sent.count == len(values)


def test_counts_and_sums_are_exact() -> None:
    histogram = of([1.0, 2.0, 0.0], [4.5])
    assert (histogram.count, histogram.zeros, histogram.total) == (4, 1, 7.5)


def test_arrays_and_lists_are_the_same() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 20_000)
    array = Histogram()
    array.add(values)
    assert array.to_wire() == of(values.tolist()).to_wire()


def test_the_wire_is_small() -> None:
    histogram = Histogram()
    histogram.add(np.random.default_rng(1).lognormal(3, 1, 20_000))
    assert len(msgspec.msgpack.encode(histogram.to_wire())) < 2_000


def test_an_empty_histogram_counts_nothing_and_has_no_quantile() -> None:
    assert of([]).count == 0
    with pytest.raises(ValueError, match="no quantiles"):
        of([]).quantile(0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_time_is_refused_and_nothing_is_counted(value: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="finite"):
        histogram.add([1.0, value])
    assert state(histogram) == state(Histogram())


def test_a_torn_wire_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Histogram.from_wire(Wire([1, 2], [3], 0, 1.0))

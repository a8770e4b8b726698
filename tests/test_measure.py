"""The arithmetic on records, with the numbers worked out beside it."""

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import metrics
from loadgen.clock import MS
from loadgen.measure import load
from loadgen.measure.checks.load import excess
from loadgen.measure.records import Records
from loadgen.measure.statistics import SMALLEST_SAMPLE, distribution, mean, percentile, ratio_of_totals
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord, from_line, to_line


def record(number: int = 0, **changes: Any) -> RequestRecord:
    """An answer of 5 tokens: sent at 0, tokens at 100, 110, ..., 140 ms, the end at 150 ms."""
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "phase": Phase.MEASURE,
        "prompt_row": number,
        "sent_ns": 0,
        "first_byte_ns": 90 * MS,
        "first_token_ns": 100 * MS,
        "last_token_ns": 140 * MS,
        "end_ns": 150 * MS,
        "stamp": "kernel",
        "first_token_interval_ns": 0,
        "last_token_interval_ns": 0,
        "end_interval_ns": 0,
        "read_delay_ns": 30_000,
        "output_tokens": 5,
        "counted_by": CountedBy.USAGE,
        "chunks": 5,
        "chunk_ns": [t * MS for t in (100, 110, 120, 130, 140)],
        "output_characters": 20,
        "outcome": Outcome.OK,
        "http_status": 200,
        "finish_reason": "stop",
    }
    return RequestRecord(**(values | changes))


def shifted(r: RequestRecord, ms: int, **changes: Any) -> dict[str, Any]:
    names = ("sent_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns")
    return {name: getattr(r, name) + ms * MS for name in names} | changes


def test_metrics_are_what_their_names_say() -> None:
    r = record(connect_ns=-3 * MS, connected_ns=-1 * MS)
    assert metrics.e2e_ms(r) == 150
    assert metrics.ttft_ms(r) == 100
    assert metrics.tpot_ms(r) == 10  # 40 ms / (5 - 1)
    assert metrics.icl_ms(r) == [10, 10, 10, 10]
    assert metrics.connect_ms(r) == 2
    assert metrics.tokens_per_second(r) == pytest.approx(5 / 0.150)


def test_tpot_leaves_out_all_tokens_of_the_first_chunk_where_they_are_known() -> None:
    assert metrics.tpot_ms(record(output_tokens=12, first_chunk_tokens=4)) == 5  # 40 ms / (12 - 4)
    assert metrics.tpot_ms(record(output_tokens=12)) == pytest.approx(40 / 11)


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.BROKEN_STREAM},
        {"first_token_ns": None, "last_token_ns": None, "chunks": 0, "chunk_ns": None, "output_tokens": None},
        {"output_tokens": 1, "chunks": 1, "chunk_ns": [100 * MS]},
    ],
)
def test_what_was_not_observed_is_none(changes: dict[str, Any]) -> None:
    assert metrics.tpot_ms(record(**changes)) is None


def test_a_record_survives_its_line() -> None:
    r = record(error="Zeile\n\u2028 zwei")
    line = to_line(r)
    assert line.count(b"\n") == 1
    assert from_line(line) == r


def test_a_line_has_the_names_that_others_read() -> None:
    names = from_line(to_line(record())).__struct_fields__
    promised = """schema request_id phase worker step prompt_row connect_ns scheduled_ns sent_ns first_byte_ns
        first_token_ns last_token_ns end_ns stamp first_token_interval_ns last_token_interval_ns end_interval_ns lazy
        input_tokens output_tokens counted_by chunks outcome error http_status finish_reason chunk_ns"""
    assert set(promised.split()) <= set(names)


def test_percentiles_are_printed_only_where_the_sample_supports_them() -> None:
    for name, smallest in SMALLEST_SAMPLE.items():
        p = float(name[1:]) / 100
        assert p**smallest <= 0.025 < p ** (smallest - 1) or smallest == 2
        enough, too_few = distribution([1.0] * smallest), distribution([1.0] * (smallest - 1))
        assert (enough.percentile(name), too_few.percentile(name)) == (1.0, None)
        assert name in msgspec.to_builtins(enough)
        assert name not in msgspec.to_builtins(too_few)
    assert msgspec.to_builtins(distribution([])) == {"n": 0}


def test_a_median_is_printed_from_two_values_on_and_other_percentiles_name_what_they_need() -> None:
    assert msgspec.to_builtins(distribution([1.0, 3.0])) == {
        "n": 2,
        "mean": 2.0,
        "p50": 3.0,
        "not_resolvable": ["p90", "p95", "p99"],
        "needs": {"p90": 36, "p95": 72, "p99": 368},
    }
    assert (distribution([1.0]).needs or {})["p50"] == 2
    assert distribution([1.0] * 368).needs == {}


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values(values: list[float], quantile: float) -> None:
    found = percentile(values, quantile)
    assert found in values
    assert sum(v < found for v in values) <= quantile * len(values)


def test_the_mean_of_rates_and_the_ratio_of_totals_are_two_readings() -> None:
    # Half the requests 10 tokens in 0.68 s, half 1000 in 20.48 s (TTFT 0.5 s, TPOT 20 ms).
    tokens, times = [10.0, 1000.0] * 50, [0.68, 20.48] * 50
    by_mean = mean([t / s for t, s in zip(tokens, times, strict=True)])
    by_total = ratio_of_totals(tokens, times)
    assert by_mean is not None
    assert by_total is not None
    assert by_mean.value == pytest.approx(31.77, abs=0.01)
    assert by_total.value == pytest.approx(47.73, abs=0.01)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        estimate = mean(list(random.gamma(4, 10, size=100)))
        assert estimate is not None
        assert estimate.ci95 is not None
        covered += estimate.ci95[0] <= 40 <= estimate.ci95[1]
    assert 0.90 <= covered / 200 <= 0.99


def test_one_value_has_no_interval_and_equal_ones_an_empty_one() -> None:
    one, equal = mean([3.0]), mean([3.0] * 50)
    assert one is not None
    assert equal is not None
    assert (one.ci95, equal.ci95) == (None, (3.0, 3.0))
    assert mean([]) is None


def test_in_flight_is_counted_over_the_spans() -> None:
    first = record(0)
    after = record(1, **shifted(first, 150))  # sent at the very instant at which the first one ends
    between = record(2, **shifted(first, 100))
    assert load.peak_in_flight([first, after]) == 1
    assert load.peak_in_flight([first, after, between]) == 2


def test_the_window_of_a_closed_loop_leaves_out_ramp_and_drain() -> None:
    base = record(0)
    # User A: 0-150, 150-300, 300-450. User B begins at 100: 100-250, 250-400. Both are at work from 100 to 400 ms.
    records = [record(i, **shifted(base, at)) for i, at in enumerate((0, 150, 300, 100, 250))]
    window = load.full_window(records, 2)
    assert window is not None
    assert (window.start, window.end) == (100 * MS, 400 * MS)
    assert load.requests_per_minute(records, window) == pytest.approx(4 / 0.3 * 60)  # two thirds of two, and three
    edges = np.array([window.start, window.end])
    assert load.Spans.of(records).tokens_served(edges)[0] / window.seconds == pytest.approx(20 / 0.3)
    assert load.full_window(records, 3) is None


def test_users_in_step_are_counted_alike_wherever_the_window_ends() -> None:
    answers = [record(i, **shifted(record(0), 150 * i)) for i in range(10)]  # one after another, 150 ms each
    for start, end in ((0, 1500), (10, 1400), (149, 151), (75, 900)):
        window = load.Window(start * MS, end * MS)
        assert load.requests_per_minute(answers, window) == pytest.approx(60 / 0.15)


def test_nothing_is_served_where_nothing_was_in_flight() -> None:
    second, draw = 1_000_000_000, random.Random(1)
    spans = ((7 * second + draw.randrange(4 * second), draw.randrange(10**7, 10**8)) for _ in range(3000))
    busy = [record(i, sent_ns=at, end_ns=at + lasts) for i, (at, lasts) in enumerate(spans)]
    served = load.Spans.of(busy).tokens_served(np.arange(7 * second, 60 * second, 100_000_000))
    assert served.sum() == pytest.approx(5 * 3000)
    assert not served[42:].any()


SPANS = st.lists(
    st.tuples(st.none() | st.integers(0, 30), st.none() | st.integers(0, 30), st.integers(0, 3)), max_size=30
)
"""When requests were sent and ended, in ms, and whose they were."""


def spanned(spans: list[tuple[int | None, int | None, int]]) -> list[RequestRecord]:
    ms = [(None if sent is None else sent * MS, None if end is None else end * MS, user) for sent, end, user in spans]
    return [record(i, sent_ns=sent, end_ns=end, user=user) for i, (sent, end, user) in enumerate(ms)]


def changes(records: list[RequestRecord]) -> list[tuple[int, int]]:
    """Ends and starts in order, an end before a start at the same time."""
    spans = [(r.sent_ns, r.end_ns) for r in records if r.sent_ns is not None and r.end_ns is not None]
    return sorted([(sent, 1) for sent, _ in spans] + [(end, -1) for _, end in spans])


@given(SPANS)
def test_the_peak_is_that_of_counting_one_request_after_another(
    spans: list[tuple[int | None, int | None, int]],
) -> None:
    levels = np.cumsum([0, *(change for _, change in changes(spanned(spans)))])
    assert load.peak_in_flight(spanned(spans)) == levels.max()


@given(SPANS, st.integers(1, 4))
def test_the_full_window_is_that_of_counting_one_request_after_another(
    spans: list[tuple[int | None, int | None, int]], users: int
) -> None:
    level, start, end = 0, None, None
    for at, change in changes(spanned(spans)):
        if level >= users and change < 0:
            end = at
        level += change
        if level >= users and start is None:
            start = at
    is_one = start is not None and end is not None and end > start
    assert load.full_window(spanned(spans), users) == (load.Window(start or 0, end or 0) if is_one else None)


@given(SPANS)
def test_users_with_several_requests_at_once_are_told_from_many_users(
    spans: list[tuple[int | None, int | None, int]],
) -> None:
    records = [r for r in spanned(spans) if r.sent_ns is None or r.end_ns is None or r.end_ns >= r.sent_ns]
    some = any(load.peak_in_flight([r for r in records if r.user == user]) > 1 for user in range(4))
    assert ("several requests in flight at once" in excess(Records.of(records), 4)) is some

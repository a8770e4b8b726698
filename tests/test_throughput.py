"""Throughput of a window: what counts in which bin, and when there is a figure and an interval."""

import random
from dataclasses import fields
from itertools import count
from math import exp, log1p

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_measure import record

from loadgen.clock import SECOND
from loadgen.measure.few_answers import PACE_ERROR
from loadgen.measure.limits import ROUND_TRIPS, SHORTEST_WINDOW
from loadgen.measure.load import Spans, Window, edges_of
from loadgen.measure.statistics import Estimate, Z
from loadgen.measure.throughput import Bins, Throughput, throughput
from loadgen.measure.timeline import Timeline
from loadgen.record import Outcome, RequestRecord

WIDTH = SECOND // 10


def request(number: int, sent: int, ttft: int, lasts: int, outcome: Outcome = Outcome.OK) -> RequestRecord:
    """A request sent at a time, ns, with a first token unless ``ttft`` is negative."""
    first = None if ttft < 0 else sent + min(ttft, lasts)
    return record(number, sent_ns=sent, first_token_ns=first, end_ns=sent + lasts, outcome=outcome)


requests = st.lists(
    st.tuples(
        st.integers(-5 * SECOND, 30 * SECOND),
        st.integers(-SECOND, 5 * SECOND),
        st.integers(10_000, 20 * SECOND),
        st.sampled_from([Outcome.OK, Outcome.OK, Outcome.HTTP_5XX]),
    ),
    min_size=1,
    max_size=40,
)


@given(requests, st.integers(1, 7))
def test_bins_filled_one_by_one_are_those_of_all_records_at_once(
    times: list[tuple[int, int, int, Outcome]], together: int
) -> None:
    records = [request(number, *of) for number, of in enumerate(times)]
    timeline = Timeline(0, WIDTH, 200)
    for start in range(0, len(records), together):
        timeline.add(records[start : start + together])
    edges = edges_of(Window(0, 20 * SECOND), WIDTH)
    ours, theirs = timeline.bins(200), Bins.of(records, edges)
    for name in (f.name for f in fields(Bins)):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-6, abs=1e-6)
    assert timeline.in_flight(200) == pytest.approx(Spans.of(records).in_flight(edges), rel=1e-6, abs=1e-6)


@given(requests)
def test_progress_changes_by_what_is_spread_over_a_window_less_what_ends_in_it(
    times: list[tuple[int, int, int, Outcome]],
) -> None:
    records = [request(number, sent, -1, lasts) for number, (sent, _, lasts, _) in enumerate(times)]
    timeline = Timeline(0, WIDTH, 600)
    timeline.add(records)
    progress = timeline.progress(600)
    for at in (35, 100, 300):  # bins: their middle against the shares of all that are in flight then
        middle = int((at + 0.5) * WIDTH)
        shares = [
            (middle - (r.sent_ns or 0)) / ((r.end_ns or 0) - (r.sent_ns or 0))
            for r in records
            if (r.sent_ns or 0) < middle - WIDTH and middle + WIDTH < (r.end_ns or 0)
        ]
        edge = sum((r.sent_ns or 0) < middle + WIDTH and middle - WIDTH < (r.end_ns or 0) for r in records) - len(
            shares
        )
        assert sum(shares) - 1e-6 <= progress[at] <= sum(shares) + edge + 1e-6


def test_what_only_queues_is_not_served() -> None:
    """32 users of an engine that answers one at a time, 1 s each: it serves one a second from the start on."""
    numbers = count()
    records = []
    for user in range(32):
        sent = 0
        for turn in range(4):
            end = (32 * turn + user + 1) * SECOND
            records.append(request(next(numbers), sent, end - SECOND - sent, end - sent))
            sent = end
    edges = edges_of(Window(0, 64 * SECOND), WIDTH)
    served = Bins.of(records, edges).answers
    assert served[20:] == pytest.approx(np.full(620, 0.1))
    assert served[:20].sum() == pytest.approx(2.5)
    assert Spans.of(records).answers_served(edges)[:20].sum() > 5  # two of them, were each spread over its round trip


def window(trips: float, users: int = 16, counted: bool = True) -> Throughput:  # noqa: FBT001, FBT002 one way or the other
    """A window of so many round trips of a second each, at so many users."""
    draw, numbers, records = random.Random(1), count(), []
    for user in range(users):
        at = -SECOND * user // users
        while at < (trips + 2) * SECOND:
            lasts = int(SECOND * draw.uniform(0.9, 1.1))
            made = request(next(numbers), at, SECOND // 10, lasts)
            records.append(
                made if counted else record(next(numbers), sent_ns=at, end_ns=at + lasts, output_tokens=None)
            )
            at += lasts
    return throughput(Bins.of(records, edges_of(Window(0, int(trips * SECOND)), WIDTH // 10)))


def test_a_window_of_less_than_three_round_trips_has_no_throughput() -> None:
    short = window(SHORTEST_WINDOW - 0.2)
    assert short.requests_per_minute is None
    assert short.no_interval == "its window holds 2.8 round trips, a throughput needs 3"
    enough = window(SHORTEST_WINDOW + 0.2)
    assert enough.requests_per_minute is not None
    assert enough.requests_per_minute.value == pytest.approx(16 * 60, rel=0.02)
    assert (enough.is_rough, enough.no_interval) == (True, None)
    assert enough.round_trips == pytest.approx(SHORTEST_WINDOW + 0.2, rel=0.05)


@pytest.mark.parametrize("trips", [SHORTEST_WINDOW, 5, 0.8 * ROUND_TRIPS])
@pytest.mark.parametrize("users", [1, 2, 16])
def test_a_window_of_a_few_round_trips_has_a_rough_interval_that_includes_what_a_pace_may_wander(
    trips: float, users: int
) -> None:
    found = window(trips + 0.3, users)
    assert found.is_rough
    for estimate, value in ((found.requests_per_minute, 60 * users), (found.tokens_per_second, 5 * users)):
        assert estimate is not None
        assert estimate.ci95 is not None
        low, high = estimate.ci95
        assert low < value < high
        assert low <= estimate.value * exp(-PACE_ERROR)
        assert high >= estimate.value * exp(PACE_ERROR)
        assert estimate.n == round(found.answers)


def test_the_rough_interval_is_wider_where_answers_differ_more_or_are_fewer() -> None:
    widths = [width(of_turns(cv, seconds)) for cv, seconds in ((0.0, 10), (0.5, 10), (1.0, 10), (1.0, 5))]
    assert widths == sorted(widths)
    assert widths[0] == pytest.approx(PACE_ERROR, rel=0.01)


def of_turns(cv: float, seconds: int) -> Estimate:
    """Requests/min of 4 users whose turns of a second on average have a CV, in a window of so many seconds."""
    ones = np.ones(10 * seconds)
    log_variance = log1p(cv**2)
    logs = -log_variance / 2
    found = throughput(
        Bins(
            width_s=0.1,
            answers=0.4 * ones,
            tokens=4 * ones,
            round_trips_s=0.4 * ones,
            service_s=0.4 * ones,
            token_squares=40 * ones,
            think_s=0 * ones,
            turn_squares=0.4 * (1 + cv**2) * ones,
            log_turns=0.4 * logs * ones,
            log_turn_squares=0.4 * (logs**2 + log_variance) * ones,
        )
    )
    assert found.requests_per_minute is not None
    return found.requests_per_minute


@pytest.mark.parametrize("streamed", [True, False])
def test_output_tokens_are_known_better_than_requests_where_answers_hardly_wait(*, streamed: bool) -> None:
    draw, records, at = np.random.default_rng(4), [], 0
    for number in range(8):
        tokens = int(draw.integers(20, 200))
        lasts = (100 + 20 * tokens) * SECOND // 1000
        first = at + SECOND // 10 if streamed else None
        records.append(record(number, sent_ns=at, first_token_ns=first, end_ns=at + lasts, output_tokens=tokens))
        at += lasts
    found = throughput(Bins.of(records, edges_of(Window(0, at), WIDTH)))
    assert found.requests_per_minute is not None
    assert found.tokens_per_second is not None
    assert (width(found.tokens_per_second) < 0.5 * width(found.requests_per_minute)) is streamed


def test_answers_that_are_no_closed_loop_of_their_own_have_no_rough_interval() -> None:
    records = [request(number, number * SECOND, SECOND // 10, SECOND) for number in range(10)]
    found = throughput(Bins.of(records, edges_of(Window(0, 10 * SECOND), WIDTH)), closed_loop=False)
    assert found.requests_per_minute is not None
    assert (found.requests_per_minute.ci95, found.is_rough) == (None, False)
    assert found.no_interval == "its window holds 10 answers and 11.1 times of service, an interval needs 30 and 20"


def test_batch_means_need_twenty_times_of_service() -> None:
    short = window(0.8 * ROUND_TRIPS)
    assert short.is_rough
    found = window(2 * ROUND_TRIPS)
    assert not found.is_rough
    assert found.requests_per_minute is not None
    assert found.tokens_per_second is not None
    assert found.requests_per_minute.ci95 is not None
    assert found.tokens_per_second.ci95 is not None
    assert found.requests_per_minute.n == round(found.answers)


def test_tokens_that_nobody_counted_take_no_interval_away() -> None:
    found = window(1.2 * ROUND_TRIPS, counted=False)
    assert found.tokens_per_second is None
    assert found.requests_per_minute is not None
    assert found.requests_per_minute.ci95 is not None


def test_answers_whose_length_wanders_have_no_batch_means_of_their_number_either() -> None:
    """As many a minute as ever, of ever other lengths: what the engine does is not known by their number."""
    draw, records = random.Random(2), []
    for number in range(3000):
        sent = number * SECOND // 50 + draw.randrange(SECOND // 100)
        lasts = int(SECOND * draw.uniform(0.2, 0.4))
        tokens = int(100 + 50 * np.sin(number / 400) + draw.randrange(20))
        records.append(
            record(number, sent_ns=sent, first_token_ns=sent + 1000, end_ns=sent + lasts, output_tokens=tokens)
        )
    found = throughput(Bins.of(records, edges_of(Window(SECOND, 50 * SECOND), SECOND // 4)))
    assert found.requests_per_minute is not None
    assert found.tokens_per_second is not None
    assert found.is_rough
    assert width(found.requests_per_minute) > PACE_ERROR


def of_lengths(cv: float, noise: float) -> tuple[Estimate, Estimate]:
    """Of 200 s with 20 answers/s, which scatter by ``noise``, and 2,000 tokens/s: requests/min and tokens/s."""
    draw, ones = np.random.default_rng(3), np.ones(200)
    answers, tokens = 20 * ones + draw.normal(0, noise, 200), 2000 * ones + draw.normal(0, 5, 200)
    squares = answers * 100**2 * (1 + cv**2)
    none = 0 * ones
    found = throughput(Bins(1.0, answers, tokens, 0.5 * answers, 0.5 * answers, squares, none, none, none, none))
    assert not found.is_rough
    assert found.requests_per_minute is not None
    assert found.tokens_per_second is not None
    return found.requests_per_minute, found.tokens_per_second


def width(estimate: Estimate) -> float:
    """Half of an interval, as a share of the value."""
    assert estimate.ci95 is not None
    return (estimate.ci95[1] - estimate.ci95[0]) / 2 / estimate.value


def test_lengths_that_the_batches_hardly_show_widen_both_intervals_by_the_same_factor() -> None:
    (plain, plain_tokens), (varied, varied_tokens) = of_lengths(0.0, 0.5), of_lengths(2.0, 0.5)
    assert width(varied) == pytest.approx(Z * 2.0 / np.sqrt(4000), rel=0.02)
    assert width(varied_tokens) / width(plain_tokens) == pytest.approx(width(varied) / width(plain), rel=0.05)


def test_tokens_are_widened_by_no_more_than_the_lengths_are_uncertain() -> None:
    for noise in (0.0005, 0.0):  # answers that do not scatter at all say nothing about their lengths either
        (_, plain_tokens), (varied, varied_tokens) = of_lengths(0.0, noise), of_lengths(2.0, noise)
        assert width(varied_tokens) == pytest.approx(width(plain_tokens) + width(varied), rel=0.05)


def test_where_nothing_was_answered_there_is_nothing() -> None:
    failed = [request(0, 0, -1, SECOND, Outcome.HTTP_5XX)]
    found = throughput(Bins.of(failed, edges_of(Window(0, SECOND), WIDTH)))
    assert found == Throughput(0.0, 0.0, None, None, no_interval="no answer was complete in its window")

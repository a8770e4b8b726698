"""What a summary says of the steps of a sweep: the headline, the knee, and goodput."""

from typing import Any

import pytest
from support.summaries import figure, latency, step
from test_checks_load import closed_loop

from loadgen.clock import MS
from loadgen.measure.facts import StepFacts
from loadgen.measure.statistics import Distribution
from loadgen.measure.verdict import Verdict
from loadgen.results import steps
from loadgen.results.summary_schema import Figure, StepSummary, ThroughputSummary
from loadgen.slo import parse_slo


def summed_up(users: int, value: float | None, half: float | None = None, **changes: Any) -> StepSummary:
    """The summary of a step, with output tokens/s of a hundredth of its requests/min."""
    ci95 = None if value is None or half is None else (value - half, value + half)
    per_second = None if value is None else value / 100
    figures = {"requests_per_minute": figure(value, ci95), "output_tokens_per_second": per_second, "goodput": None}
    return step(0, users, **(figures | changes))


def headline(of: ThroughputSummary) -> Figure:
    assert of.requests_per_minute is not None
    return of.requests_per_minute


def test_the_headline_is_the_mean_of_the_steps_that_chance_does_not_tell_apart() -> None:
    found = steps.throughput(
        [summed_up(8, 500, 5), summed_up(16, 995, 10), summed_up(32, 1005, 10), summed_up(64, 1000, 10)], 64
    )
    rate = headline(found)
    assert (rate.value, rate.n) == (pytest.approx(1000), 300)
    assert rate.ci95 == pytest.approx((990, 1010))
    assert found.at_concurrency == 16
    assert found.plateau == [16, 32, 64]
    assert found.output_tokens_per_second == pytest.approx(10)
    assert found.knee is not None
    assert found.knee.between == (8, 16)


def test_rough_steps_are_no_part_of_the_headline_unless_all_are_or_they_clearly_exceed_the_others() -> None:
    known = [summed_up(16, 1000, 10), summed_up(32, 1000, 10)]
    found = steps.throughput([*known, summed_up(64, 1050, 120, rough=True)], 64)
    assert (headline(found).value, found.plateau) == (pytest.approx(1000), [16, 32])
    exceeding = headline(steps.throughput([*known, summed_up(64, 1500, 180, rough=True)], 64))
    assert (exceeding.value, exceeding.n) == (1500, 100)
    assert exceeding.ci95 == pytest.approx((1320, 1680))


def test_a_headline_of_rough_steps_alone_has_the_narrowest_of_their_intervals() -> None:
    found = steps.throughput(
        [summed_up(8, 500, 100, rough=True), summed_up(16, 990, 198, rough=True), summed_up(32, 1010, 101, rough=True)],
        32,
    )
    rate = headline(found)
    assert (rate.value, rate.n) == (pytest.approx(1000), 200)
    assert rate.ci95 == pytest.approx((900, 1100))


def test_the_headline_and_the_knee_have_the_latency_of_their_steps() -> None:
    def latencies(users: int, *names: str) -> dict[str, Distribution]:
        return dict.fromkeys(names, latency(10.0 * users))

    values = {4: 250, 8: 500, 16: 970, 32: 1000, 64: 1000}
    all_names = ("ttft_ms", "tpot_ms", "e2e_ms", "connect_ms")
    found = steps.throughput(
        [summed_up(n, value, 1, latency=latencies(n, *all_names)) for n, value in values.items()], 64
    )
    assert found.at_concurrency == 32
    assert found.knee is not None
    assert found.knee.between == (8, 16)
    assert found.latency == latencies(32, "ttft_ms", "tpot_ms", "e2e_ms")
    assert found.knee.latency == latencies(16, "ttft_ms", "tpot_ms", "e2e_ms")
    assert steps.throughput([summed_up(4, None)], 4).latency is None


@pytest.mark.parametrize("which", [{"steady": False}, {"requests_per_minute": None}])
def test_a_step_that_is_not_steady_or_too_short_is_no_headline_and_no_knee(which: dict[str, Any]) -> None:
    below = [summed_up(4, 250, 3), summed_up(8, 500, 5)]
    found = steps.throughput([*below, summed_up(16, 2000, 10, **which)], 16)
    assert headline(found).value == pytest.approx(500)
    assert found.at_concurrency == 8
    assert found.knee is None
    alone = steps.throughput([summed_up(16, 2000, 10, **which)], 16)
    assert (alone.requests_per_minute, alone.output_tokens_per_second) == (None, None)


def test_a_step_that_is_too_short_to_tell_may_be_the_headline() -> None:
    found = steps.throughput([summed_up(4, 250), summed_up(8, 500, steady=None)], 8)
    rate = headline(found)
    assert (rate.value, rate.ci95, rate.n) == (pytest.approx(500), None, 100)


@pytest.mark.parametrize("window_ms", [(500, 5500), (520, 5530), (590, 3210)])
def test_goodput_counts_as_throughput_does_and_never_exceeds_it(window_ms: tuple[int, int]) -> None:
    facts = StepFacts(number=0, concurrency=16, began_ns=0, window_ns=(window_ms[0] * MS, window_ms[1] * MS))
    found = steps.step(facts, closed_loop(16), parse_slo("e2e_ms=1000"), Verdict.VALID)
    assert found.goodput is not None
    assert found.requests_per_minute is not None
    good, all_of_them = found.goodput.requests_per_minute, found.requests_per_minute.value
    assert all_of_them is not None
    assert good == pytest.approx(all_of_them, rel=0.01)
    assert good <= all_of_them * (1 + 1e-9)
    assert found.goodput.share.value == 1

"""The headline of each kind of run: its main figure with its interval, and what it is of."""

from typing import Any

import msgspec
import pytest
from conftest import ROOT
from support.summaries import SLO, closed_loop, figure, step

from loadgen.results.headline import headline
from loadgen.results.summary_schema import Summary
from loadgen.results.text import ABSENT


def kept(name: str) -> Summary:
    return msgspec.json.decode((ROOT / "tests" / "kept" / name / "summary.json").read_bytes(), type=Summary)


def test_the_headline_of_one_user_is_its_tokens_per_second() -> None:
    found = headline(kept("speed"))
    assert (
        found.text == "318.0 tokens/s (95 % interval 317.6 to 318.3): one user, full round trip, mean over 40 requests"
    )
    assert dict(found.figures) == {
        "TTFT p50": "20.43 ms",
        "TPOT p50": "1.99 ms",
        "E2E p50": "50.26 ms",
        "failed": "0 of 40 requests",
    }


def test_the_headline_of_a_sweep_says_at_how_many_users_its_throughput_is_highest() -> None:
    found = headline(kept("sweep"))
    assert found.text == "1,503 requests/min (95 % interval 1,305 to 1,719): highest throughput, at 4 users"


def test_the_headline_of_an_open_loop_says_what_was_asked_for_and_counts_latency_from_the_schedule() -> None:
    found = headline(kept("rate"))
    assert found.figure == "1,065 requests/min"
    assert found.of == "served; 1,200 requests/min were asked for, Poisson arrivals"
    assert dict(found.figures)["TTFT p50 from the schedule"] == "20.89 ms"
    assert dict(found.figures)["answered"] == "60 of 60 scheduled requests"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"requests_per_minute": None}, f"{ABSENT} requests/min: no step was steady and long enough"),
        (
            {"requests_per_minute": figure(50.0, None)},
            "50.00 requests/min (no 95 % interval): highest throughput, at 16 users",
        ),
    ],
)
def test_a_figure_that_was_not_measured_is_a_dash_and_one_without_an_interval_says_so(
    changes: dict[str, Any], text: str
) -> None:
    summary = closed_loop(step(0, 8), step(1, 16))
    assert summary.throughput is not None
    throughput = msgspec.structs.replace(summary.throughput, at_concurrency=16, **changes)
    assert headline(msgspec.structs.replace(summary, throughput=throughput)).text == text


def test_where_throughput_reaches_nearly_its_highest_stands_next_to_it() -> None:
    summary = closed_loop(step(0, 1), step(1, 8), step(2, 16), step(3, 32), step(4, 64))
    assert dict(headline(summary).figures)["knee"] == "between 8 and 32 users"


def test_a_throughput_that_is_the_mean_of_several_steps_says_of_which() -> None:
    summary = closed_loop(step(0, 8), step(1, 16), step(2, 32))
    assert summary.throughput is not None
    plateau = msgspec.structs.replace(summary.throughput, plateau=[16, 32], at_concurrency=16)
    found = headline(msgspec.structs.replace(summary, throughput=plateau))
    assert found.of == "highest throughput, mean of the steps of 16 and 32 users"
    assert all(name.endswith("at 16 users") for name, _ in found.figures if " p50" in name)


def test_what_was_served_within_the_limits_stands_next_to_the_throughput() -> None:
    figures = dict(headline(closed_loop(step(0, 8), step(1, 16), step(2, 32))).figures)
    assert figures[f"within {SLO}"] == "990.0 requests/min at 32 users"

"""Limits on latencies, and who keeps them."""

from typing import Any

import pytest
from test_measure import record

from loadgen.clock import MS
from loadgen.errors import OptionError
from loadgen.measure.goodput import meets
from loadgen.record import Outcome
from loadgen.scenario import resolve
from loadgen.slo import NAMES, Slo, parse_slo


def test_all_limits_are_read() -> None:
    assert parse_slo("ttft_ms=200,tpot_ms=50,e2e_ms=5000") == Slo(
        "ttft_ms=200,tpot_ms=50,e2e_ms=5000", {"ttft_ms": 200, "tpot_ms": 50, "e2e_ms": 5000}
    )


def test_a_limit_that_is_not_named_is_none() -> None:
    assert parse_slo(" tpot_ms = 12.5 ") == Slo("tpot_ms=12.5", {"tpot_ms": 12.5})


@pytest.mark.parametrize(
    ("text", "part", "why"),
    [
        ("ttfb_ms=200", "ttfb_ms=200", "'ttfb_ms' is no limit"),
        ("ttft=200", "ttft=200", "'ttft' is no limit"),
        ("ttft_ms=200,tpot_ms=50,ttft_ms=300", "ttft_ms=300", "given twice"),
        ("ttft_ms=fast", "ttft_ms=fast", "'fast' is not a number"),
        ("ttft_ms=200ms", "ttft_ms=200ms", "'200ms' is not a number"),
        ("ttft_ms=nan", "ttft_ms=nan", "above 0"),
        ("ttft_ms=inf", "ttft_ms=inf", "above 0"),
        ("e2e_ms=0", "e2e_ms=0", "above 0"),
        ("e2e_ms=-1", "e2e_ms=-1", "above 0"),
        ("e2e_ms=", "e2e_ms=", "number is missing"),
        ("e2e_ms", "e2e_ms", "number is missing"),
        ("e2e_ms=1=2", "e2e_ms=1=2", "'1=2' is not a number"),
        ("ttft_ms=200,", "", "no name"),
        ("=200", "=200", "no name"),
        ("", "", "no name"),
    ],
)
def test_a_wrong_limit_is_named_with_what_is_allowed(text: str, part: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_slo(text)
    message = str(caught.value)
    assert message.startswith(f"in {part!r} ")
    assert all(name in message for name in NAMES)


def test_the_option_of_a_wrong_limit_is_named() -> None:
    with pytest.raises(OptionError, match="--slo: in 'ttfb_ms=200' 'ttfb_ms' is no limit; allowed are ttft_ms"):
        resolve({"slo": "ttfb_ms=200"})


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ("ttft_ms=100", True),  # a limit is kept where it is reached
        ("ttft_ms=99.9", False),
        ("tpot_ms=10", True),
        ("tpot_ms=9.9", False),
        ("e2e_ms=150", True),
        ("e2e_ms=149.9", False),
        ("ttft_ms=100,tpot_ms=10,e2e_ms=150", True),
        ("ttft_ms=100,tpot_ms=10,e2e_ms=149", False),
        ("ttft_ms=100,tpot_ms=9,e2e_ms=150", False),
    ],
)
def test_a_request_meets_an_slo_when_it_keeps_every_limit(limits: str, *, kept: bool) -> None:
    assert meets(record(), parse_slo(limits)) is kept  # TTFT 100 ms, TPOT 10 ms, E2E 150 ms


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.OK])
def test_a_failed_request_never_meets_an_slo(outcome: Outcome) -> None:
    assert not meets(record(outcome=outcome), parse_slo("e2e_ms=100000"))
    assert not meets(record(outcome=outcome), parse_slo("tpot_ms=100000"))


NOT_STREAMED: dict[str, Any] = {"first_token_ns": None, "last_token_ns": None, "chunks": 0, "chunk_ns": None}


@pytest.mark.parametrize(
    ("limits", "changes", "kept"),
    [
        ("tpot_ms=1", {"output_tokens": 1, "chunks": 1, "chunk_ns": [100 * MS]}, True),
        ("tpot_ms=1,ttft_ms=99", {"output_tokens": 1, "chunks": 1, "chunk_ns": [100 * MS]}, False),
        ("ttft_ms=1000", NOT_STREAMED, False),
        ("e2e_ms=1000", NOT_STREAMED, True),
        ("e2e_ms=1000", {"end_ns": None}, False),
    ],
)
def test_only_a_tpot_that_was_not_observed_is_met(limits: str, changes: dict[str, Any], *, kept: bool) -> None:
    assert meets(record(**changes), parse_slo(limits)) is kept

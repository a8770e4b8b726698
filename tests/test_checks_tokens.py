"""Checks of tokens: three ways to count them, and a cache that answers in the engine's place."""

from typing import Any

import pytest
from msgspec.structs import replace as with_changes
from test_verdict import GOOD, IDLE, WORKED, altered, check_of, evidence, status_of

from loadgen.measure.check import Status
from loadgen.measure.evidence import Evidence
from loadgen.record import CountedBy, Outcome

COUNT = "the engine's own count of tokens"
CACHE = "prompts not from a cache"


def counted(e: Evidence | None = None, **after: Any) -> Evidence:
    """Evidence in which the engine's second reading is different."""
    changed = (IDLE, with_changes(WORKED, **after))
    base = {} if e is None else {"records": e.records}
    return evidence(counters=changed, **base)


@pytest.mark.parametrize(
    ("engine", "status"),
    [
        (500, Status.OK),
        (505, Status.OK),
        (495, Status.OK),
        (506, Status.WARN),
        (494, Status.WARN),
        (526, Status.INVALID),
        (474, Status.INVALID),
        (-1000, Status.INVALID),  # it was started anew
    ],
)
def test_the_engine_has_to_count_as_many_tokens_as_we_do(engine: int, status: Status) -> None:
    assert status_of(counted(output_tokens=1000.0 + engine), COUNT) is status


def test_all_who_counted_are_named() -> None:
    assert check_of(evidence(), COUNT).value == "500 by usage, 500 chunks, 500 by the engine"
    mixed = check_of(altered(40, counted_by=CountedBy.TOKENIZER, chunks=None), COUNT).value
    assert mixed == "300 by usage, 200 by tokenizer, 500 by the engine"


@pytest.mark.parametrize(
    ("outcome", "most"),
    [(Outcome.BROKEN_STREAM, 500), (Outcome.IDLE_TIMEOUT, 550), (Outcome.ABORTED, 550)],
)
def test_of_an_answer_that_ended_early_the_engine_may_have_made_what_came_and_more_if_we_gave_it_up(
    outcome: Outcome, most: int
) -> None:
    broken = altered(10, outcome=outcome)  # 450 tokens are ours; 5 came of each of the 10, 5 is average
    for engine, status in ((450, Status.OK), (most, Status.OK), (440, Status.WARN), (most + 10, Status.WARN)):
        assert status_of(counted(broken, output_tokens=1000.0 + engine), COUNT) is status
    assert status_of(counted(broken, output_tokens=1000.0 + most + 30), COUNT) is Status.INVALID
    assert "10 requests not complete" in (check_of(counted(broken), COUNT).value or "")


def test_tokens_of_somebody_else_do_not_hide_behind_a_few_failures() -> None:
    for outcome in (Outcome.BROKEN_STREAM, Outcome.TOTAL_TIMEOUT):
        few = altered(3, outcome=outcome)
        assert status_of(counted(few, output_tokens=1000.0 + 1.1 * 485), COUNT) is not Status.OK
    refused = altered(3, outcome=Outcome.HTTP_5XX, http_status=503, output_tokens=None, chunks=0)
    assert status_of(counted(refused, output_tokens=1000.0 + 1.1 * 485), COUNT) is Status.INVALID


def test_without_streams_a_failed_answer_may_have_been_as_long_as_the_longest() -> None:
    whole = [with_changes(r, first_token_ns=None, last_token_ns=None, chunks=0, chunk_ns=None) for r in GOOD]
    whole[0] = with_changes(whole[0], output_tokens=50)
    failed = [
        with_changes(r, outcome=Outcome.TOTAL_TIMEOUT, output_tokens=None, http_status=None) if i > 97 else r
        for i, r in enumerate(whole)
    ]
    ours = 50 + 97 * 5
    for extra, status in ((0, Status.OK), (100, Status.OK), (150, Status.INVALID)):
        e = evidence(records=failed, counters=(IDLE, with_changes(WORKED, output_tokens=1000.0 + ours + extra)))
        assert status_of(e, COUNT) is status


def test_a_request_that_was_never_sent_made_no_tokens() -> None:
    dropped = altered(10, outcome=Outcome.DROPPED, sent_ns=None)
    assert status_of(counted(dropped, output_tokens=1000.0 + 600), COUNT) is Status.INVALID


@pytest.mark.parametrize(
    "e",
    [
        evidence(counters=None),
        counted(output_tokens=None),
        altered(1, output_tokens=None, counted_by=None),
    ],
)
def test_counts_that_are_not_told_are_not_compared(e: Evidence) -> None:
    check = check_of(e, COUNT)
    assert check.status is Status.NOT_CHECKED
    assert check.advice


REPEATED = altered(100, prompt_row=7)


@pytest.mark.parametrize(
    ("e", "hits", "status"),
    [
        (evidence(), 0, Status.OK),
        (evidence(), 14, Status.OK),  # 2 % of 700: a system prompt
        (evidence(), 15, Status.WARN),
        (REPEATED, 0, Status.OK),  # it does not cache
        (REPEATED, 1, Status.WARN),
        (REPEATED, 690, Status.WARN),
    ],
)
def test_prompts_from_the_engines_cache_are_told(e: Evidence, hits: int, status: Status) -> None:
    assert status_of(counted(e, prefix_hits=70.0 + hits), CACHE) is status


def test_the_share_of_hits_and_the_repeats_are_shown() -> None:
    check = check_of(counted(REPEATED, prefix_hits=70.0 + 350), CACHE)
    assert check.value == "50.0 % of prompt tokens, 99 requests repeated a prompt"


def test_a_cache_that_is_not_told_of_is_not_checked() -> None:
    for e in (REPEATED, evidence()):
        check = check_of(counted(e, prefix_hits=None), CACHE)
        assert check.status is Status.NOT_CHECKED
        assert "reports nothing about its cache" in (check.advice or "")
    assert "99 of 100" in (check_of(counted(REPEATED, prefix_queries=None), CACHE).value or "")


def test_a_counter_that_appears_with_the_first_hit_counts_from_0() -> None:
    first = (with_changes(IDLE, prefix_hits=None, prefix_queries=None), with_changes(WORKED, prefix_hits=140.0))
    assert check_of(evidence(counters=first), CACHE).value == "10.0 % of prompt tokens, 0 requests repeated a prompt"


def test_requests_of_the_warm_up_repeat_prompts_too() -> None:
    from loadgen.record import Phase

    warm = [with_changes(r, request_id="w" + r.request_id, phase=Phase.WARMUP) for r in GOOD[:3]]
    check = check_of(evidence(records=[*warm, *GOOD]), CACHE)
    assert "3 requests repeated a prompt" in (check.value or "")


def test_cached_prompt_tokens_in_usage_are_seen_where_no_counter_tells_of_them() -> None:
    for cached, status in ((0, Status.OK), (3, Status.WARN)):
        e = evidence(records=[with_changes(r, cached_tokens=cached, input_tokens=10) for r in GOOD], counters=None)
        assert status_of(e, CACHE) is status
    assert check_of(e, CACHE).value == "30.0 % of prompt tokens, 0 requests repeated a prompt"


def test_what_the_turns_of_a_conversation_have_in_common_is_no_fault_of_the_cache() -> None:
    own = counted(altered(50, prompt_row=None), prefix_hits=70.0 + 350)
    check = check_of(own, CACHE)
    assert check.status is Status.NOT_CHECKED
    assert check.value == "50.0 % of prompt tokens, 50 of 100 requests with prompts of the locustfile"


def test_each_answer_is_compared_with_the_limit_that_its_request_asked_for() -> None:
    """Answers of GOOD have 5 tokens; the run's limit is higher."""
    lengths = "output lengths"
    assert status_of(altered(10, max_tokens=5), lengths) is Status.OK
    check = check_of(altered(10, max_tokens=4), lengths)
    assert check.status is Status.WARN
    assert "10 answers longer" in (check.value or "")
    assert (check.limit or "").startswith("at most 4 to ")

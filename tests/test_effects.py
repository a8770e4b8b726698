"""The effect of each objection: in the units of the headline with the value that was measured, or as unknown."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec.structs import replace as with_changes
from test_checks_load import answers, arrive, closed_loop, open_loop, ramp, step, times_of
from test_checks_tokens import counted
from test_verdict import GOOD, altered, check_of, evidence

from loadgen.clock import MS
from loadgen.measure.check import OBJECTIONS
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import UserCode, WorkerFacts
from loadgen.record import CountedBy, Outcome


def of_users(lag_ms: float) -> Evidence:
    """Four users in a closed loop."""
    return evidence(records=closed_loop(4, pause_ms=1), users=4, loop_lag_p99_ms=lag_ms)


def dropped(count: int) -> Evidence:
    gone = {"outcome": Outcome.DROPPED, "sent_ns": None, "first_token_ns": None, "end_ns": None}
    records = arrive(times_of("poisson", 20, 400))
    return open_loop([with_changes(r, **gone) if i < count else r for i, r in enumerate(records)])


def late(late_ms: float) -> Evidence:
    return open_loop(arrive(times_of("poisson", 20, 400), lambda number: late_ms if number % 50 == 0 else 0.0))


def far(uncertainty_ms: float, e: Evidence) -> Evidence:
    worker = WorkerFacts(
        number=1, name="w", host="far", pid=2, clock_offset_ns=5, clock_uncertainty_ns=int(uncertainty_ms * MS)
    )
    return replace(e, workers=[worker], started=None)


def bursts() -> Evidence:
    return altered(100, output_tokens=41, chunks=40, coalesced_chunks=36, output_characters=160)


@pytest.mark.parametrize(
    ("name", "make", "value", "effect"),
    [
        (
            "client lag",
            lambda: replace(altered(100, stamp="user"), loop_lag_p99_ms=7.2),
            "p99 of the loop lag 7.20 ms",
            "TTFT and E2E may read up to 7.2 ms high (p99); tokens/s may read up to 4.8 % low.",
        ),
        (
            "client lag",
            lambda: replace(altered(50, stamp="user", first_token_ns=None), loop_lag_p99_ms=6.0),
            "p99 of the loop lag 6.00 ms",
            "E2E of 50 of 100 answers may read up to 6.0 ms high (p99); tokens/s may read up to 2.0 % low.",
        ),
        (
            "client lag",
            lambda: evidence(loop_lag_p99_ms=6.0),
            "p99 of the loop lag 6.00 ms",
            "tokens/s, TTFT and E2E are not affected: the kernel took their times.",
        ),
        (
            "client lag",
            lambda: of_users(6.0),
            "p99 of the loop lag 6.00 ms",
            "the kernel took their times. requests/min may read up to 0.7 % low at 4 users.",
        ),
        (
            "client load",
            lambda: evidence(cpu_share=0.9),
            "CPU 90 % of a core",
            "'client lag' shows how late reads were.",
        ),
        (
            "client load",
            lambda: evidence(gc_longest_ms=30.0),
            "longest pause of Python's garbage collector 30.0 ms",
            "A request that was due in that pause left up to 30.0 ms late.",
        ),
        (
            "times known exactly",
            lambda: altered(100, end_interval_ns=15 * MS),
            "uncertain by 3.33 % on average",
            "On average, E2E may read up to 10.0 % high; tokens/s may read up to 10.0 % low.",
        ),
        (
            "times known exactly",
            lambda: altered(100, first_token_interval_ns=10 * MS),
            "uncertain by 3.33 % on average",
            "On average, TTFT may read up to 10.0 % high.",
        ),
        (
            "times known exactly",
            lambda: altered(10, coalesced_chunks=4),
            "40 of 50 chunks read together",
            "Their gaps were not measured: there is no ITL and no ICL.",
        ),
        (
            "workers",
            lambda: far(1.5, evidence(users=4)),
            "clocks known to 1.50 ms",
            "The window of requests/min begins and ends up to 1.50 ms earlier or later on each host.",
        ),
        (
            "workers",
            lambda: far(1.5, late(0.0)),
            "clocks known to 1.50 ms",
            "Latencies from the schedule may be off by up to 1.50 ms; those from the send are not affected.",
        ),
        (
            "failures",
            lambda: altered(3, outcome=Outcome.HTTP_5XX),
            "3 of 100: 3 http_5xx",
            "The figures are of the 97 requests that were answered; how long the others would have taken is not known.",
        ),
        (
            "every request accounted for",
            lambda: evidence(started=103),
            "103 started, 100 recorded",
            "The figures lack 3 requests of 103, and how fast these were is not known.",
        ),
        (
            "every request accounted for",
            lambda: evidence(records=[*GOOD, GOOD[0]]),
            "100 started, 101 recorded",
            "The figures have 1 request twice.",
        ),
        (
            "token counts",
            lambda: altered(100, text_tokens=10),
            "1,000 tokens in the text by the tokenizer, 500 counted",
            "tokens/s may read up to 50.0 % low.",
        ),
        (
            "token counts",
            lambda: altered(100, counted_by=CountedBy.CHUNKS),
            "100 by chunks",
            "Chunks are a lower bound of the tokens: tokens/s may read low, by how much is not known.",
        ),
        (
            "the engine's own count of tokens",
            lambda: counted(output_tokens=1000.0 + 525),
            "525 by the engine",
            "If it is our count that is wrong, tokens/s may read up to 4.8 % low.",
        ),
        (
            "the engine's own count of tokens",
            lambda: counted(output_tokens=1000.0 + 480),
            "480 by the engine",
            "If it is our count that is wrong, tokens/s may read up to 4.2 % high.",
        ),
        (
            "the engine's own count of tokens",
            lambda: counted(output_tokens=0.0),
            "-1,000 by the engine",
            "If it is our count that is wrong, tokens/s may read high, by how much is not known.",
        ),
        (
            "prompts not from a cache",
            lambda: counted(prefix_hits=70.0 + 350),
            "50.0 % of prompt tokens",
            "The engine did not compute 50.0 % of the prompt tokens: TTFT reads low and tokens/s high, by how much",
        ),
        (
            "answers streamed as asked",
            bursts,
            "10 tokens came at a time",
            "TTFT may read high by about 9 ms, the time of 9 tokens, and TPOT low. E2E is not affected.",
        ),
        (
            "all counted tokens shown",
            lambda: altered(100, output_tokens=41),
            "8.2 tokens a chunk, 0.49 characters a token",
            "Part of what the server counts was not in the stream: TPOT may read up to 90.0 % low.",
        ),
        (
            "concurrency as asked",
            lambda: evidence(users=2),
            "1 in flight at most",
            "The figures are of up to 1 request in flight at once, not of 2.",
        ),
        (
            "Little's law",
            lambda: ramp(step(0, 4, (500, 4500)), records=closed_loop(4, pause_ms=5)),
            "3.87 of 4 users waited for the engine",
            "requests/min may read up to 3.2 % low at 4 users.",
        ),
        (
            "Little's law",
            lambda: evidence(records=closed_loop(4), users=2),
            "3.96 requests in flight, 2 users asked for",
            "requests/min may read up to 98.1 % high for 2 users.",
        ),
        (
            "steady state",
            lambda: evidence(records=answers(*[500] * 20, *[100] * 80)),
            "the first 20 answers 10.0 tokens/s, the other 80 50.0",
            "tokens/s is the mean of both: it reads 16.0 % low against the later 80 answers.",
        ),
        (
            "steady state",
            lambda: ramp(step(0, 1, (0, 900)), step(1, 2, (1000, 1900), unsteady="drifts"), records=closed_loop(2)),
            "2 users: drifts",
            "These steps are part of neither the headline nor the knee.",
        ),
        (
            "arrivals as asked",
            lambda: dropped(20),
            "20 of 400 dropped",
            "The load was 5.0 % lower than asked for: requests/min and latencies are of 19 requests/s, not of 20.",
        ),
        (
            "sent on time",
            lambda: late(3.0),
            "p99 3.00 ms late",
            "Latencies from the schedule read up to 3.0 ms high (p99) by this client; those from the send are not",
        ),
        (
            "user code",
            lambda: evidence(user_code=UserCode(tasks=100, errors=2)),
            "2 of 100 tasks raised an exception",
            "A task that raised may have sent too few requests: tokens/s may be another, by how much is not known.",
        ),
        (
            "enough samples",
            lambda: evidence(records=GOOD[:29]),
            "29 complete answers",
            "The interval of tokens/s is rough, and p90, p95 and p99 are missing.",
        ),
    ],
)
def test_an_objection_names_the_value_that_broke_the_limit_and_states_its_effect(
    name: str, make: Callable[[], Evidence], value: str, effect: str
) -> None:
    check = check_of(make(), name)
    assert check.status in OBJECTIONS
    assert value in (check.value or "")
    assert effect in (check.effect or "")


def test_checks_that_have_nothing_to_object_to_state_no_effect() -> None:
    assert check_of(evidence(), "client lag").effect is None

"""Builders of summaries, for tests of what is made from a summary. What is not given has a sensible default."""

from dataclasses import asdict
from typing import Any

from msgspec.structs import replace

from loadgen.measure.check import CheckResult, Status
from loadgen.measure.knee import knee
from loadgen.measure.statistics import SMALLEST_SAMPLE, Distribution
from loadgen.measure.verdict import Verdict
from loadgen.metrics import LIMITS
from loadgen.results.document import Document, document_of
from loadgen.results.pictures.by_concurrency import by_concurrency
from loadgen.results.summary_schema import (
    Chat,
    Figure,
    Goodput,
    InstrumentSummary,
    KneeSummary,
    Latency,
    Rate,
    Requests,
    Sample,
    StepSummary,
    Summary,
    ThroughputSummary,
    TokenCounts,
    Tokens,
    VerdictSummary,
    Widths,
)
from loadgen.results.table import Table

SLO = "ttft_ms=200,tpot_ms=50"

Interval = tuple[float, float]


def figure(value: float | None, ci95: Interval | None = None, n: int = 100) -> Figure:
    """Return an estimate, without an interval unless one is given."""
    return Figure(value=value, ci95=ci95, n=n)


def latency(p50: float, *, p99: bool = True) -> Distribution:
    """Return a distribution of 900 values; without ``p99`` it has no p99, which would need 368 independent values."""
    return Distribution(
        n=900,
        n_eff=700.0 if p99 else 300.0,
        mean=1.1 * p50,
        p50=p50,
        p90=1.5 * p50,
        p95=2 * p50,
        p99=3 * p50 if p99 else None,
        ci95={"p50": (0.97 * p50, 1.03 * p50)},
        not_resolvable=[] if p99 else ["p99"],
        needs={} if p99 else {"p99": SMALLEST_SAMPLE["p99"]},
    )


def verdict(status: str = "VALID", **checks: str) -> VerdictSummary:
    """Return a verdict; ``checks``: the status of each check by its title."""
    results = [CheckResult(name=name, status=Status(found)) for name, found in checks.items()]
    return VerdictSummary(status=Verdict(status), checks=results)


def summary(**changes: Any) -> Summary:
    """Return the summary of a speed run of 100 requests without latencies and without a speed."""
    values: dict[str, Any] = {
        "schema": 1,
        "kind": "speed",
        "run_id": "20260101-000000-run-m-0000",
        "grafana": None,
        "dataset": "LIMA",
        "chat": Chat(made_by="engine", stop=[]),
        "sample": Sample(prompts=40, rounds=1),
        "engine": "vllm",
        "model": "m",
        "simulated": True,
        "embedded": None,
        "launched": None,
        "client": "own",
        "proxy": None,
        "stream": True,
        "streamed": True,
        "verdict": verdict(),
        "requests": Requests(started=100, completed=100, failed=0, aborted=0, dropped=0, by_error={}, errors={}),
        "latency": {},
        "tokens": Tokens(
            output=12_000,
            input=900,
            cached_input=None,
            output_per_request=Distribution(n=100, mean=120.0, p50=120.0),
            counted_by={"usage": 100},
            counts=TokenCounts(usage=12_000, tokenizer=None, chunks=12_000, put_right=None),
            finish_reasons={"stop": 100},
        ),
        "instrument": InstrumentSummary(
            loop_lag_ms=None,
            cpu_seconds=0.0,
            cpu_share=0.0,
            gc_pauses=0.0,
            gc_longest_ms=0.0,
            read_delay_ms=None,
            coalesced_reads=None,
            chunks=None,
            timestamp_source=None,
            interval_ms=Widths(first_token=None, last_token=None, end=None),
            itl_share=None,
            streams_read_token_by_token=0,
            streams=0,
            replaced_connections=0,
            calibration=None,
            workers=[],
        ),
        "energy": None,
    }
    return Summary(**(values | changes))


def document(of: Summary) -> Document:
    """Return the report of a summary that no records belong to."""
    return document_of(of, Table("What was run", ("", ""), ()), by_concurrency(of))


def step(number: int, concurrency: int, **changes: Any) -> StepSummary:
    """Return a step of an engine that serves 60 requests/min of each user, and at most 1,000."""
    rate = min(60.0 * concurrency, 1000.0)
    values: dict[str, Any] = {
        "step": number,
        "concurrency": concurrency,
        "steady": True,
        "unsteady": None,
        "undecided": None,
        "ended_by": "precision",
        "verdict": Verdict.VALID,
        "window_seconds": 12.3,
        "requests": 900,
        "failed": 0,
        "requests_per_minute": figure(rate, (0.98 * rate, 1.02 * rate), 200),
        "output_tokens_per_second": 3 * rate,
        "output_tokens_per_second_ci95": (2.9 * rate, 3.1 * rate),
        "latency": {
            "ttft_ms": latency(30.0 + concurrency, p99=concurrency > 1),
            "tpot_ms": latency(10 + concurrency / 8),
            "itl_ms": latency(9 + concurrency / 8),
            "e2e_ms": latency(2000.0 + concurrency, p99=concurrency > 1),
        },
        "goodput": Goodput(requests_per_minute=0.99 * rate, share=figure(0.99, (0.97, 1.0), 900), slo=SLO),
        "energy": None,
    }
    return StepSummary(**(values | changes))


def best(requests_per_minute: Figure | None, at: int | None, **changes: Any) -> ThroughputSummary:
    """Return a throughput that was reached at some number of users."""
    values: dict[str, Any] = {
        "requests_per_minute": requests_per_minute,
        "at_concurrency": at,
        "plateau": [] if requests_per_minute is None or at is None else [at],
        "output_tokens_per_second": None,
        "knee": None,
        "goodput": None,
    }
    return ThroughputSummary(**(values | changes))


def closed_loop(*steps: StepSummary, **changes: Any) -> Summary:
    """Return the summary of a closed loop of some steps, each of which has a throughput.

    Its throughput is that of the step with the highest, and its knee is that of all steps.
    """
    top = max(steps, key=_rate)
    found = knee([(s.concurrency, _rate(s), _interval(s)) for s in steps])
    throughput = best(
        top.requests_per_minute,
        top.concurrency,
        output_tokens_per_second=top.output_tokens_per_second,
        latency=_limited(top),
        knee=None if found is None else KneeSummary(**asdict(found), latency=_at(steps, found.between[1])),
        goodput=top.goodput and replace(top.goodput, at_concurrency=top.concurrency),
    )
    values: dict[str, Any] = {"kind": "throughput", "steps": list(steps), "throughput": throughput}
    return summary(**(values | {"latency": {"ttft_ms": latency(77.0)}} | changes))


def open_loop(**changes: Any) -> Summary:
    """Return the summary of an open loop; ``changes``: of its rate."""
    values: dict[str, Any] = {
        "asked_per_second": 20.0,
        "process": "gamma",
        "cv": 1.5,
        "max_in_flight": 1000,
        "scheduled": 12000,
        "dropped": 3,
        "unsteady": None,
        "undecided": None,
        "window_seconds": 600.0,
        "requests_per_minute": figure(1188.2, (1170.1, 1207.3), 200),
        "output_tokens_per_second": 3600.0,
        "output_tokens_per_second_ci95": None,
        "queueing_episodes": 200.0,
        "run_time_needed_s": None,
        "latency_from_schedule": {"ttft_ms": latency(2040.0), "e2e_ms": latency(4000.0)},
        "latency_from_send": {"ttft_ms": latency(40.0), "e2e_ms": latency(2000.0)},
        "send_lag_ms": latency(0.25),
        "goodput": step(0, 1).goodput,
    }
    return summary(kind="rate", latency={"ttft_ms": latency(77.0)}, rate=Rate(**(values | changes)))


def _rate(of: StepSummary) -> float:
    assert of.requests_per_minute is not None
    assert of.requests_per_minute.value is not None
    return of.requests_per_minute.value


def _interval(of: StepSummary) -> Interval | None:
    return None if of.requests_per_minute is None else of.requests_per_minute.ci95


def _limited(of: StepSummary) -> Latency:
    return {metric.key: of.latency[metric.key] for metric in LIMITS if metric.key in of.latency}


def _at(steps: tuple[StepSummary, ...], users: int) -> Latency:
    return _limited(next(s for s in steps if s.concurrency == users))

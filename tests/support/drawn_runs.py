"""Runs with records, for tests of what is drawn of them: eight users, some failures, names, an engine's own clock."""

import random
from typing import Any

from msgspec.structs import replace

from loadgen.clock import MS
from loadgen.measure.energy import EnergySample
from loadgen.measure.facts import Arrivals, StepFacts
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord
from loadgen.results.manifest import Ended, Manifest
from loadgen.results.run_data import Run

SLO = "ttft_ms=250,e2e_ms=2000"


def manifest(**changes: Any) -> Manifest:
    """The manifest of a run of eight users for a minute."""
    values: dict[str, Any] = {
        "run_id": "20260101-000000-throughput-m-0000",
        "kind": "throughput",
        "engine": "vllm",
        "model": "m",
        "host": "http://gpu-box:8000",
        "simulated": False,
        "scenario": {"max_tokens": 128, "slo": SLO, "seed": 7, "model": "m"},
        "users": 8,
        "planned_requests": 400,
        "dataset": {"name": "LIMA", "rows": 1000, "seed": 7, "sample_rows": list(range(100))},
        "server": {"server_header": "uvicorn"},
        "versions": {"loadgen": "0.1.0", "locust": "2.47.0"},
        "environment": {"platform": "Linux", "cpus": 16, "cpu": "A CPU"},
        "started_at": "2026-01-01T00:00:00+00:00",
        "anchor": {"realtime_ns": 1, "monotonic_ns": 1},
        "ended": Ended(reason="completed", at="2026-01-01T00:01:00+00:00", started_requests=400),
    }
    return Manifest(**(values | changes))


def records(count: int = 400, **changes: Any) -> list[RequestRecord]:
    """Requests of 75 ms each of eight users, every fortieth refused; the later, the slower."""
    rng = random.Random(1)
    return [_record(rng, i, **changes) for i in range(count)]


def _record(rng: random.Random, number: int, **changes: Any) -> RequestRecord:
    sent = number * 150
    ttft, tokens = rng.gauss(120 + number / 20, 12), rng.randint(20, 128)
    last = ttft + 8 * tokens * rng.uniform(0.9, 1.1)
    values: dict[str, Any] = {
        "request_id": f"r{number}",
        "phase": Phase.MEASURE,
        "prompt_row": number % 100,
        "user": number % 8,
        "name": ("a question", "its follow-up")[number % 2],
        "sent_ns": sent * MS,
        "first_token_ns": int((sent + ttft) * MS),
        "last_token_ns": int((sent + last) * MS),
        "end_ns": int((sent + last + 2) * MS),
        "input_tokens": rng.randint(10, 900),
        "output_tokens": tokens,
        "counted_by": CountedBy.USAGE,
        "outcome": Outcome.OK,
        "server_prefill_ms": ttft - 20,
        "server_tpot_ms": 7.9,
    }
    if number % 40 == 39:
        values |= {"outcome": Outcome.HTTP_5XX, "output_tokens": None, "first_token_ns": None, "last_token_ns": None}
    return RequestRecord(**(values | changes))


def run(count: int = 400, **changes: Any) -> Run:
    """A run of eight users."""
    return Run(manifest(**changes), records(count))


def speed_run(count: int = 60, slow: int = 20) -> Run:
    """A run of one user, whose first answers are slow."""
    answers = []
    at = 0
    for number in range(count):
        took = 2000 if number < slow else 1000
        times = {"sent_ns": at * MS, "first_token_ns": (at + 100) * MS, "last_token_ns": (at + took) * MS}
        answers.append(_record(random.Random(number), number, **times, end_ns=(at + took) * MS, output_tokens=50))
        at += took
    whole = [r for r in answers if r.outcome is Outcome.OK]
    return Run(manifest(kind="speed", users=1, planned_requests=count, scenario={"max_tokens": 50}), whole)


def sweep_run() -> Run:
    """A run of three steps."""
    steps = [
        StepFacts(
            number=number,
            concurrency=2**number,
            began_ns=number * 20_000 * MS,
            window_ns=(number * 20_000 * MS + 1000 * MS, (number + 1) * 20_000 * MS),
            ended_by="step-time",
        )
        for number in range(3)
    ]
    return Run(manifest(steps=steps, planned_requests=None), records())


def rate_run() -> Run:
    """An open loop, each request of which was sent 2 ms late."""
    arrivals = Arrivals(process="constant", rate=1000 / 150, cv=0.0, max_in_flight=64, epoch_ns=0)
    due = [replace(r, scheduled_ns=i * 150 * MS - 2 * MS) for i, r in enumerate(records())]
    return Run(manifest(kind="rate", arrivals=arrivals), due)


def powered_run() -> Run:
    """A run whose GPUs were asked for their power once a second."""
    return run(energy=[EnergySample(at * 1000 * MS, None, 300.0 + at) for at in range(61)])

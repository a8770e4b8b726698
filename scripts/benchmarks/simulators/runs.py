"""The run that a real one would have been, had it sent the requests of a simulated load: its manifest."""

from collections.abc import Sequence
from typing import Any

from loadgen.measure.facts import Arrivals, EngineCounters, Instrument, StepFacts, WorkerFacts
from loadgen.record import RequestRecord
from loadgen.results.manifest import Ended, Kind, Manifest

SEED = 42
MAX_TOKENS = 10**6
"""No answer is that long."""


def manifest(kind: Kind, records: Sequence[RequestRecord], **more: Any) -> Manifest:  # noqa: ANN401 fields of Manifest
    """Return the manifest of a run in which nothing went wrong: one process, which had next to nothing to do."""
    usual: dict[str, Any] = {
        "scenario": {"max_tokens": MAX_TOKENS, "seed": SEED},
        "users": 1,
        "ended": Ended(reason="completed", at="", started_requests=len(records)),
        "instruments": [Instrument(loop_lag_p99_ms=0.5, cpu_share=0.1, gc_longest_ms=0.2)],
        "workers": [worker(0, len(records))],
        "planned_requests": None if kind == "throughput" else len(records),
        "counters": counters(records),
    }
    nothing: dict[str, Any] = {"dataset": {}, "server": {}, "versions": {}, "environment": {}, "anchor": {}}
    return Manifest(
        run_id="simulated",
        kind=kind,
        engine="endpoint",
        model="simulated",
        host="http://simulated",
        simulated=True,
        started_at="",
        **nothing,
        **usual | more,
    )


def worker(number: int, started: int) -> WorkerFacts:
    """Return one process."""
    return WorkerFacts(number=number, name="here", host="here", pid=number + 1, started_requests=started)


def counters(records: Sequence[RequestRecord], **after: float) -> tuple[EngineCounters, EngineCounters]:
    """Return what the engine counted; ``after``: what it said otherwise in the end."""
    idle = {"running": 0.0, "waiting": 0.0, "prefix_hits": 0.0}
    before = EngineCounters(at_ns=0, output_tokens=0.0, requests=0.0, prefix_queries=0.0, **idle)
    told = {
        "output_tokens": float(sum(r.output_tokens or 0 for r in records)),
        "requests": float(len(records)),
        "prefix_queries": 60.0 * len(records),
    }
    return before, EngineCounters(at_ns=1, **idle | told | after)


def speed(records: Sequence[RequestRecord], **more: Any) -> Manifest:  # noqa: ANN401 fields of Manifest
    """Return that of one user's run."""
    return manifest("speed", records, **more)


def sweep(records: Sequence[RequestRecord], steps: Sequence[StepFacts], **more: Any) -> Manifest:  # noqa: ANN401 likewise
    """Return that of a ramp."""
    return manifest("throughput", records, steps=list(steps), users=max(s.concurrency for s in steps), **more)


def rate(records: Sequence[RequestRecord], asked: Arrivals, **more: Any) -> Manifest:  # noqa: ANN401 likewise
    """Return that of an open loop."""
    return manifest("rate", records, arrivals=asked, users=0, **more)

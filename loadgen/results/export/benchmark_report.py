"""llm-d's BenchmarkReport 0.2.1 as JSON, under our definitions, which it states.

The package ``llmd-benchmark-report`` defines the format. A report describes one load, so a sweep has
one report for each step, in a folder. The schema has no field for the verdict, the definitions and intervals: they are
in ``results.profiling``, which takes anything, with the figures as in ``summary.json``. What was not measured is left
out.

Counts and lengths are of all measured requests. Latencies and rates are those of our reports: in a step those of its
window, in an open loop those of its steady part.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from loadgen.clock import SECOND
from loadgen.measure.facts import StepFacts, kind
from loadgen.measure.statistics import distribution
from loadgen.record import Outcome, RequestRecord
from loadgen.results.export.per_step import measured_in, place_of
from loadgen.results.manifest import Manifest
from loadgen.results.run_data import Run
from loadgen.results.summary_schema import as_json
from loadgen.results.text import subject_of_manifest

Json = dict[str, Any]

VERSION = "0.2.1"
COMPONENT_SCHEMA = "0.0.1"
"""Version of the schemas of an engine and a load; there is one so far."""

_LATENCIES = {
    "time_to_first_token": ("ttft_ms", "ms"),
    "time_per_output_token": ("tpot_ms", "ms/token"),
    "inter_token_latency": ("itl_ms", "ms/token"),
    "request_latency": ("e2e_ms", "ms"),
}
"""Fields of the schema, with our name and the unit. It has none for gaps between chunks of several tokens."""

_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")

_DEFINITIONS = {
    "requests": "all measured requests; those that an open loop dropped were not sent and are not counted",
    "time_to_first_token": "first token - start; without the time to connect, except in an open loop",
    "time_per_output_token": "(last token - first token) / (output tokens - tokens of the first chunk) of a request",
    "inter_token_latency": "gap between two chunks of one token each, over all requests",
    "request_latency": "end of the response - start; without the time to connect, except in an open loop",
    "percentiles": "value at sorted index floor(n * p); left out where n is too small for an interval of it",
}
_STARTS = {
    "speed": "just before the last byte of the request is sent",
    "throughput": "just before the last byte of the request is sent",
    "rate": "when the request was due by the schedule",
}
_RATES = {
    "speed": "output tokens of complete answers / time in their requests",
    "throughput": "served within the window in which the number of users was constant",
    "rate": "served within the part of the schedule in which the engine was steady",
}


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """What the summary has about one load."""

    latency: Mapping[str, Any]
    """Distributions, by our names."""
    served: Mapping[str, Any]
    """Where ``requests_per_minute`` and ``output_tokens_per_second`` are, if they are known."""
    verdict: Json
    details: Json
    """The figures as in ``summary.json``."""


def write(run: Run, path: Path) -> list[Path]:
    """Write the file, or one for each step of a sweep, and return their paths; raises OSError."""
    if not run.manifest.steps:
        return [_written(path, report(run))]
    files = []
    for step in run.manifest.steps:
        if measured_in(step, run.requests):
            place = place_of(step, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            files.append(_written(place.with_name(f"{place.name}.json"), report(run, step)))
    return files


def _written(path: Path, content: Json) -> Path:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return path


def report(run: Run, step: StepFacts | None = None) -> Json:
    """Return the report of a run, or of one step of it."""
    measured = measured_in(step, run.requests)
    ok = [r for r in measured if r.outcome is Outcome.OK]
    figures = _figures(run, step)
    aggregate = {
        "requests": _requests(measured, ok),
        "latency": _latency(figures.latency),
        "throughput": _throughput(figures.served),
    }
    return {
        "version": VERSION,
        "run": _run(run.manifest, step, figures.verdict["status"]),
        "scenario": _known({"stack": [_engine(run.manifest)], "load": _load(run.manifest, step, ok)}),
        "results": {
            "request_performance": {"aggregate": _known(aggregate)},
            "profiling": {
                "loadgen": {
                    "verdict": figures.verdict,
                    "definitions": _definitions(run.manifest),
                    "figures": figures.details,
                }
            },
        },
    }


def _figures(run: Run, step: StepFacts | None) -> _Figures:
    """Return the figures of a load. Nothing else in this module reads the summary."""
    summary, kind_of_run = as_json(run.summary), run.manifest.kind
    latency = summary["latency"]
    details: Json = {name: summary[name] for name in ("requests", "latency", "tokens")}
    if kind_of_run == "speed":
        total = summary["speed"]["tokens_per_second_total"] or {}
        served, details["speed"] = {"output_tokens_per_second": total.get("value")}, summary["speed"]
    elif kind_of_run == "rate":
        served = details["rate"] = summary["rate"]
        from_schedule = served.get("latency_from_schedule", {})
        latency = {**latency, "ttft_ms": from_schedule.get("ttft_ms"), "e2e_ms": from_schedule.get("e2e_ms")}
    else:
        number = 0 if step is None else step.number
        served = next((found for found in summary["steps"] if found["step"] == number), {})
        if step is not None:
            latency, details = served.get("latency", {}), dict(served)
        else:
            details["steps"] = summary["steps"]
    return _Figures(latency=latency, served=served, verdict=summary["verdict"], details=details)


def _requests(measured: Sequence[RequestRecord], ok: Sequence[RequestRecord]) -> Json:
    outcomes = Counter(r.outcome for r in measured)
    total = len(measured) - outcomes[Outcome.DROPPED]
    aborted = outcomes[Outcome.ABORTED]
    return {"total": total, "failures": total - len(ok) - aborted, "incomplete": aborted} | _known(
        {
            "input_length": _statistics(_lengths([r.input_tokens for r in ok]), "count"),
            "output_length": _statistics(_lengths([r.output_tokens for r in ok]), "count"),
        }
    )


def _lengths(counts: Sequence[int | None]) -> Json:
    """Return the distribution of those that are known."""
    found: Json = msgspec.to_builtins(distribution([float(count) for count in counts if count is not None]))
    return found


def _latency(distributions: Mapping[str, Any]) -> Json:
    return _known({name: _statistics(distributions.get(ours), unit) for name, (ours, unit) in _LATENCIES.items()})


def _throughput(served: Mapping[str, Any]) -> Json:
    per_minute = (served.get("requests_per_minute") or {}).get("value")
    per_second = None if per_minute is None else per_minute / 60
    return _known(
        {
            "output_token_rate": _statistics({"mean": served.get("output_tokens_per_second")}, "tokens/s"),
            "request_rate": _statistics({"mean": per_second}, "queries/s"),
        }
    )


def _statistics(found: Mapping[str, Any] | None, units: str) -> Json | None:
    """Return a distribution as the schema has it; None without a mean, which it requires."""
    known = _known({name: (found or {}).get(name) for name in _STATISTICS})
    return {"units": units, **known} if "mean" in known else None


def _definitions(manifest: Manifest) -> Json:
    return {"start": _STARTS[manifest.kind], **_DEFINITIONS, "rates": _RATES[manifest.kind]}


def _run(manifest: Manifest, step: StepFacts | None, verdict: str) -> Json:
    subject = subject_of_manifest(manifest)
    place = "" if step is None else f", step {step.number}"
    uid = manifest.run_id if step is None else f"{manifest.run_id}-step-{step.number}"
    description = f"{subject.title}; {_asked(manifest, step)}; {verdict} [{manifest.run_id}{place}]"
    time = _time(manifest, step)
    return _known(
        {"uid": uid, "eid": manifest.run_id, "time": time, "description": description, "keywords": subject.reservations}
    )


def _asked(manifest: Manifest, step: StepFacts | None) -> str:
    """Return the load in words."""
    if manifest.arrivals is not None:
        return f"{manifest.arrivals.rate:g} requests/s, {manifest.arrivals.process}"
    users = _users(manifest, step)
    return "changing number of users" if users is None else f"{users} users" if users > 1 else "1 user"


def _users(manifest: Manifest, step: StepFacts | None) -> int | None:
    """Return how many users a closed loop had; None where their number changed, and of an open loop."""
    if step is not None:
        return step.concurrency
    return None if manifest.arrivals is not None or manifest.users_changed else manifest.users


def _time(manifest: Manifest, step: StepFacts | None) -> Json:
    """Return when a run took place, or the window of a step."""
    if step is not None:
        start, end = step.window_ns or (step.began_ns, None)
        return _span(_wall(manifest, start), None if end is None else _wall(manifest, end))
    ended = manifest.ended
    began = datetime.fromisoformat(manifest.started_at)
    return _span(began, None if ended is None else datetime.fromisoformat(ended.at))


def _wall(manifest: Manifest, at: int) -> datetime:
    """Return the wall time of an instant on the clock of worker 0."""
    ns = manifest.anchor["realtime_ns"] + at - manifest.anchor["monotonic_ns"]
    return datetime.fromtimestamp(ns / SECOND, UTC)


def _span(start: datetime, end: datetime | None) -> Json:
    began = start.isoformat(timespec="milliseconds")
    if end is None:
        return {"start": began}
    duration = f"PT{(end - start).total_seconds():.3f}S"
    return {"start": began, "end": end.isoformat(timespec="milliseconds"), "duration": duration}


def _engine(manifest: Manifest) -> Json:
    """Return the engine as a component of the stack."""
    launched = manifest.launched
    native = {"config": manifest.server if launched is None else msgspec.to_builtins(launched)}
    metadata = {"schema_version": COMPONENT_SCHEMA, "label": "engine", "cfg_id": _hash(native)}
    labels = subject_of_manifest(manifest).reservations
    if labels:
        metadata["description"] = ", ".join(labels)
    return {"metadata": metadata, "standardized": _standardized(manifest), "native": native}


def _standardized(manifest: Manifest) -> Json:
    """Return what engines have in common. Without a known accelerator, which the schema requires, it is ``generic``."""
    launched = manifest.launched
    version = "unknown" if launched is None else launched.title
    common = {"tool": manifest.engine, "tool_version": version, "model": {"name": manifest.model}}
    name = None if launched is None else kind(launched.gpus)
    if launched is None or name is None:
        return {"kind": "generic", **common}
    count = len(launched.gpus)
    split = {"tensor": "tp", "layers": "pp"}.get(launched.split or "")
    accelerator = {"model": name, "count": count, "parallelism": {split: count} if split else {}}
    return {"kind": "inference_engine", **common, "role": "replica", "replicas": 1, "accelerator": accelerator}


def _load(manifest: Manifest, step: StepFacts | None, ok: Sequence[RequestRecord]) -> Json | None:
    """Return what was asked; None where the length of no prompt is known, as the schema requires it."""
    lengths = [r.input_tokens for r in ok if r.input_tokens is not None]
    if not lengths:
        return None
    arrivals, max_tokens = manifest.arrivals, manifest.scenario["max_tokens"]
    enforced = manifest.scenario.get("ignore_eos")
    native = {"config": {"options": manifest.scenario, "dataset": manifest.dataset}}
    sampled = any(r.prompt_row is not None for r in ok)
    standardized = {
        "tool": "loadgen",
        "tool_version": manifest.versions["loadgen"],
        "parallelism": len(manifest.instruments) or None,
        "source": "sampled" if sampled else "unknown",
        "stage": None if step is None else step.number,
        "input_seq_len": {
            "distribution": "other",
            "value": sum(lengths) / len(lengths),
            "min": min(lengths),
            "max": max(lengths),
        },
        "output_seq_len": {"distribution": "fixed", "value": max_tokens} if enforced else None,
        "rate_qps": None if arrivals is None else arrivals.rate,
        "concurrency": _users(manifest, step),
    }
    metadata = {
        "schema_version": COMPONENT_SCHEMA,
        "cfg_id": _hash(native),
        "description": f"{_asked(manifest, step)}, answers of at most {max_tokens} tokens",
    }
    return {"metadata": metadata, "standardized": _known(standardized), "native": native}


def _hash(config: object) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:32]


def _known(values: Json) -> Json:
    """Return the values that are there: neither None nor an empty object or list."""
    return {name: value for name, value in values.items() if value is not None and value not in ({}, [])}

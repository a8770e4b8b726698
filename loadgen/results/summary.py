"""``summary.json``: the figures of a run, made from its manifest and records alone. Names are a contract."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

import msgspec

from loadgen.clock import MS
from loadgen.measure import load, metrics
from loadgen.measure.envelope import StreamLoad, described, stream_load
from loadgen.measure.statistics import Estimate, distribution, mean, percentile, ratio_of_totals
from loadgen.measure.verdict import ENOUGH_REQUESTS, SHARED_READS_LIMIT, Check, Evidence, Verdict, judge
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results.manifest import Instrument, Manifest

Summary = dict[str, Any]

ONE_TOKEN_A_CHUNK = 1.05
"""Output tokens per chunk up to which gaps between chunks are called inter-token latencies."""


def summarise(manifest: Manifest, records: Sequence[RequestRecord]) -> Summary:
    """Return the summary of a run. A value that was not measured is absent or null, never 0."""
    evidence = _evidence(manifest, records)
    verdict, checks = judge(evidence)
    latency = _latency(evidence.ok)
    summary: Summary = {
        "schema": 1,
        "kind": manifest.kind,
        "run_id": manifest.run_id,
        "dataset": manifest.dataset.get("name"),
        "sample": {
            "prompts": len(manifest.dataset.get("sample_rows", ())),
            "rounds": max((r.round + 1 for r in evidence.measured), default=0),
        },
        "engine": manifest.engine,
        "model": manifest.model,
        "simulated": manifest.simulated,
        "embedded": manifest.embedded,
        "client": manifest.scenario.get("client"),
        "stream": not manifest.scenario.get("no_stream"),
        "verdict": _verdict(verdict, checks),
        "requests": _requests(evidence.measured, evidence.started is not None),
        "latency": latency,
        "tokens": _tokens(evidence.ok),
        "instrument": _instrument(manifest, evidence.ok),
    }
    if manifest.kind == "speed":
        summary["speed"] = _speed(evidence.ok)
    else:
        summary |= _throughput(evidence, verdict, latency)
    return summary


def verdict_of(summary: Summary) -> Verdict:
    """Return the verdict of a summary."""
    return Verdict(summary["verdict"]["status"])


def _evidence(manifest: Manifest, records: Sequence[RequestRecord]) -> Evidence:
    ended = manifest.ended
    return Evidence(
        records=records,
        started=ended.started_requests if ended else None,
        planned=manifest.planned_requests,
        ended=ended.reason if ended else None,
        users=manifest.users,
        users_changed=manifest.users_changed,
        max_tokens=int(manifest.scenario["max_tokens"]),
        loop_lag_p99_ms=_worst(i.loop_lag_p99_ms for i in manifest.instruments),
        cpu_share=_worst(i.cpu_share for i in manifest.instruments),
        gc_longest_ms=_worst(i.gc_longest_ms for i in manifest.instruments),
        load=_stream_load(manifest, records),
        calibration=manifest.calibration,
        no_calibration=manifest.no_calibration,
    )


def _stream_load(manifest: Manifest, records: Sequence[RequestRecord]) -> StreamLoad | None:
    """Return the load, where it is of the kind that is calibrated: TLS costs a client more than a plain socket."""
    if manifest.host.startswith("https:"):
        return None
    measured = (r for r in records if r.phase is Phase.MEASURE)
    return stream_load(measured, manifest.users, manifest.itl_share)


def _verdict(verdict: Verdict, checks: Sequence[Check]) -> Summary:
    return {"status": verdict.value, "checks": [asdict(check) | {"status": check.status.value} for check in checks]}


def _requests(measured: Sequence[RequestRecord], all_known: bool) -> Summary:  # noqa: FBT001 the one thing to know
    outcomes = Counter(r.outcome for r in measured)
    apart = {Outcome.OK, Outcome.ABORTED, Outcome.DROPPED}
    return {
        # A run that broke off cannot say how many requests were in flight.
        "started": len(measured) if all_known else None,
        "completed": outcomes[Outcome.OK],
        "failed": sum(n for outcome, n in outcomes.items() if outcome not in apart),
        "aborted": outcomes[Outcome.ABORTED],
        "dropped": outcomes[Outcome.DROPPED],
        "by_error": {outcome.value: n for outcome, n in outcomes.items() if outcome is not Outcome.OK},
        "errors": _first_errors(measured),
    }


def _first_errors(measured: Sequence[RequestRecord]) -> dict[str, str]:
    """Return one message per outcome: the first."""
    messages: dict[str, str] = {}
    for r in measured:
        if r.outcome is not Outcome.OK and r.error:
            messages.setdefault(r.outcome.value, r.error)
    return messages


def _speed(ok: Sequence[RequestRecord]) -> Summary:
    rates = [rate for r in ok if (rate := metrics.tokens_per_second(r)) is not None]
    pairs = [(r.output_tokens, e2e / 1e3) for r in ok if r.output_tokens and (e2e := metrics.e2e_ms(r)) is not None]
    return {
        "tokens_per_second_mean": _estimate(mean(rates)),
        "tokens_per_second_total": _estimate(ratio_of_totals([t for t, _ in pairs], [s for _, s in pairs])),
    }


def _throughput(evidence: Evidence, verdict: Verdict, latency: Summary) -> Summary:
    """Return the one step of a plain closed loop, counted while all its users were at work."""
    window = load.full_window(evidence.measured, evidence.users)
    if window is None:
        return {"steps": [], "throughput": {"requests_per_minute": None, "at_concurrency": evidence.users}}
    enough = load.answers_in(evidence.measured, window) >= ENOUGH_REQUESTS
    rate = {"value": load.requests_per_minute(evidence.measured, window) if enough else None, "ci95": None}
    step = {
        "concurrency": evidence.users,
        "window_seconds": window.seconds,
        "requests_per_minute": rate,
        "output_tokens_per_second": load.output_tokens_per_second(evidence.measured, window) if enough else None,
        "latency": latency,
        "verdict": verdict.value,
    }
    return {"steps": [step], "throughput": {"requests_per_minute": rate, "at_concurrency": evidence.users}}


def _estimate(estimate: Estimate | None) -> Summary | None:
    if estimate is None:
        return None
    return {"value": estimate.value, "ci95": estimate.ci95 and list(estimate.ci95), "n": estimate.n}


def _latency(ok: Sequence[RequestRecord]) -> Summary:
    per_request: dict[str, Callable[[RequestRecord], float | None]] = {
        "ttft_ms": metrics.ttft_ms,
        "tpot_ms": metrics.tpot_ms,
        "e2e_ms": metrics.e2e_ms,
        "connect_ms": metrics.connect_ms,
    }
    latency: Summary = {
        name: distribution([value for r in ok if (value := metric(r)) is not None])
        for name, metric in per_request.items()
    }
    gaps = metrics.all_icl_ms(ok)
    shared, chunks = metrics.shared_reads(ok)
    if len(gaps) and shared <= SHARED_READS_LIMIT * chunks:  # a gap between chunks of one read was not measured
        latency["itl_ms" if _one_token_a_chunk(ok) else "icl_ms"] = distribution(gaps)
    return latency


def _one_token_a_chunk(ok: Sequence[RequestRecord]) -> bool:
    streamed = [r for r in ok if r.chunk_ns is not None and r.output_tokens is not None]
    tokens = sum(r.output_tokens or 0 for r in streamed)
    return tokens <= ONE_TOKEN_A_CHUNK * sum(r.chunks or 0 for r in streamed)


def _tokens(ok: Sequence[RequestRecord]) -> Summary:
    output = [r.output_tokens for r in ok if r.output_tokens is not None]
    given = [r.input_tokens for r in ok if r.input_tokens is not None]
    by = Counter(r.counted_by for r in ok if r.counted_by is not None)
    return {
        "output": sum(output) if output else None,
        "input": sum(given) if given else None,
        "output_per_request": distribution([float(n) for n in output]),
        "counted_by": {who.value: n for who, n in by.items()},
        "finish_reasons": dict(Counter(r.finish_reason or "none given" for r in ok)),
    }


def _instrument(manifest: Manifest, ok: Sequence[RequestRecord]) -> Summary:
    return {
        **_health(manifest.instruments, ok),
        "timestamp_source": "+".join(sorted({r.stamp for r in ok})) or None,
        "interval_ms": {
            "first_token": _widths(r.first_token_interval_ns for r in ok),
            "last_token": _widths(r.last_token_interval_ns for r in ok),
            "end": _widths(r.end_interval_ns for r in ok),
        },
        "itl_share": manifest.itl_share,
        "streams_read_token_by_token": sum(r.chunk_ns is not None for r in ok),
        "streams": sum(r.first_token_ns is not None for r in ok),
        "replaced_connections": sum(r.connection == "replaced" for r in ok),
        "calibration": _calibration(manifest),
        "workers": [
            {"worker": i.worker, **_health([i], [r for r in ok if r.worker == i.worker])} for i in manifest.instruments
        ],
    }


def _health(instruments: Sequence[Instrument], ok: Sequence[RequestRecord]) -> Summary:
    """Return how some processes of the load generator were; of several the worst."""
    delays = [r.read_delay_ns / MS for r in ok if r.read_delay_ns is not None]
    shared, chunks = metrics.shared_reads(ok)
    lag = {
        "p50": _worst(i.loop_lag_p50_ms for i in instruments),
        "p99": _worst(i.loop_lag_p99_ms for i in instruments),
        "max": _worst(i.loop_lag_max_ms for i in instruments),
    }
    return {
        "loop_lag_ms": None if lag["max"] is None else lag,
        "cpu_seconds": _total(i.cpu_seconds for i in instruments),
        "cpu_share": _worst(i.cpu_share for i in instruments),
        "gc_pauses": _total(i.gc_pauses for i in instruments),
        "gc_longest_ms": _worst(i.gc_longest_ms for i in instruments),
        "read_delay_ms": {"p50": percentile(delays, 0.5), "max": max(delays)} if delays else None,
        # Neither the SDK nor a lazily drained stream shows what was read together.
        "coalesced_reads": shared if chunks else None,
        "chunks": chunks or None,
    }


def _calibration(manifest: Manifest) -> Summary | None:
    """Return the envelope that this machine was measured to hold."""
    if manifest.calibration is None:
        return None
    return {**msgspec.to_builtins(manifest.calibration), "text": described(manifest.calibration.held)}


def _widths(widths: Iterable[int | None]) -> Summary | None:
    """Return how wide the intervals are in which arrivals are known, ms."""
    known = [width / MS for width in widths if width is not None]
    return {"mean": fmean(known), "max": max(known)} if known else None


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

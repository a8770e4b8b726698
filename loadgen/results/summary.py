"""Makes the summary of a run from its manifest and records alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from statistics import fmean
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from loadgen import metrics
from loadgen.clock import MS
from loadgen.errors import DataError
from loadgen.measure.envelope import StreamLoad, described, stream_load
from loadgen.measure.evidence import Evidence
from loadgen.measure.facts import Arrivals, Instrument, StepFacts
from loadgen.measure.gaps import ChunkCounts
from loadgen.measure.latency import latency
from loadgen.measure.load import Window, peak_in_flight
from loadgen.measure.records import Records
from loadgen.measure.speed import speed
from loadgen.measure.statistics import distribution, percentile
from loadgen.measure.verdict import Verdict, judge
from loadgen.record import Phase, RequestRecord
from loadgen.results import energy, steps
from loadgen.results.by_name import by_name
from loadgen.results.clocks import on_one_clock
from loadgen.results.counts import requests, tokens
from loadgen.results.drift import drift
from loadgen.results.engine import engine_facts
from loadgen.results.grafana import link
from loadgen.results.manifest import Kind, Manifest
from loadgen.results.rate import rate, window_of
from loadgen.results.summary_schema import (
    Calibration,
    Chat,
    InstrumentSummary,
    Latency,
    LoopLag,
    ReadDelay,
    Sample,
    Speed,
    StepSummary,
    Summary,
    ThroughputSummary,
    VerdictSummary,
    Width,
    Widths,
    WorkerHealth,
)
from loadgen.slo import Slo, parse_slo
from loadgen.workload.arrivals import schedule

OWN_PROMPTS = "the locustfile's own"


def summarise(manifest: Manifest, records: Iterable[RequestRecord]) -> Summary:
    """Return the summary of a run. A value that was not measured is absent or null, never 0."""
    evidence = _evidence(manifest, on_one_clock(Records.of(records), manifest.workers))
    verdict, checks = judge(evidence)
    latencies = latency(evidence.ok, distribution)
    figures = _FIGURES[manifest.kind](manifest, evidence, verdict, latencies)
    is_named = any(evidence.measured.tally("name"))
    return Summary(
        schema=1,
        kind=manifest.kind,
        run_id=manifest.run_id,
        grafana=link(manifest),
        dataset=_asked(manifest, evidence.measured),
        chat=Chat(made_by=manifest.prompts_made_by, stop=list(manifest.stop)),
        sample=Sample(
            prompts=len(manifest.dataset.get("sample_rows", ())),
            rounds=int(evidence.measured.ints("round").max(initial=-1)) + 1,
        ),
        engine=manifest.engine,
        model=manifest.model,
        simulated=manifest.simulated,
        embedded=manifest.embedded,
        launched=engine_facts(manifest.launched),
        client=manifest.scenario.get("client"),
        proxy=manifest.server.get("proxy"),
        stream=not manifest.scenario.get("no_stream"),
        streamed=_streamed(evidence.ok),
        verdict=VerdictSummary(status=verdict, checks=checks),
        requests=requests(evidence.measured, all_known=evidence.started is not None),
        latency=latencies,
        tokens=tokens(evidence.ok),
        instrument=_instrument(manifest, evidence.ok),
        users_changed=manifest.users_changed,
        **figures,
        drift=[] if evidence.steps else drift(evidence.measured, thinks=evidence.thinks),
        by_name=by_name(evidence, _window(evidence, figures.get("throughput")), _slo(manifest)) if is_named else {},
    )


def _asked(manifest: Manifest, measured: Records) -> str | None:
    """Return whose prompts were sent: those of the data set, of the locustfile, or both."""
    name = manifest.dataset.get("name")
    own = int((~measured.known("prompt_row")).sum())
    if not own:
        return name
    return OWN_PROMPTS if own == len(measured) else f"{name}, and {OWN_PROMPTS}"


def _slo(manifest: Manifest) -> Slo | None:
    if not manifest.scenario.get("slo"):
        return None
    with DataError.naming("run.json, scenario.slo:"):  # valid when the run began, so the file was edited
        return parse_slo(manifest.scenario["slo"])


def _evidence(manifest: Manifest, records: Records) -> Evidence:
    ended = manifest.ended
    return Evidence(
        records=records,
        started=ended.started_requests if ended else None,
        planned=manifest.planned_requests,
        ended=ended.reason if ended else None,
        ended_why=ended.why if ended else None,
        sigint=ended.sigint if ended else False,
        users=manifest.users,
        users_changed=manifest.users_changed,
        shaped=manifest.shaped,
        max_tokens=int(manifest.scenario["max_tokens"]),
        ignore_eos=bool(manifest.scenario.get("ignore_eos")),
        stream=not manifest.scenario.get("no_stream"),
        same_text=_same_text(manifest),
        loop_lag_p99_ms=_worst(i.loop_lag_p99_ms for i in manifest.instruments),
        cpu_share=_worst(i.cpu_share for i in manifest.instruments),
        gc_longest_ms=_worst(i.gc_longest_ms for i in manifest.instruments),
        load=_stream_load(manifest, records),
        calibration=manifest.calibration,
        no_calibration=manifest.no_calibration,
        user_code=manifest.user_code,
        workers=manifest.workers,
        steps=manifest.steps,
        arrivals=_looked_at(manifest, records),
        schedule=_schedule(manifest, records),
        counters=manifest.counters,
    )


def _streamed(ok: Records) -> bool | None:
    """Return whether any answer came as a stream; None where nobody looked."""
    known = ok.where_known("streamed")
    return bool(known.yes("streamed").any()) if known else None


def _same_text(manifest: Manifest) -> dict[int, int]:
    """Return the rows of the sample whose text is that of another row; none, where nobody looked."""
    with DataError.naming("run.json, dataset.same_text:"):
        try:
            return msgspec.convert(manifest.dataset.get("same_text", {}), dict[int, int], strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None


def _looked_at(manifest: Manifest, records: Records) -> Arrivals | None:
    """Return an open loop's schedule with the window in which it is looked at."""
    if manifest.arrivals is None:
        return None
    window, state = window_of(manifest.arrivals, records.where(records.equal("phase", Phase.MEASURE)))
    span = None if window is None else (window.start, window.end)
    return msgspec.structs.replace(
        manifest.arrivals, window_ns=span, unsteady=state.unsteady, undecided=state.undecided
    )


def _schedule(manifest: Manifest, records: Records) -> NDArray[np.int64] | None:
    """Draw an open loop's schedule again, as far as its records reach; None until it had begun."""
    asked = manifest.arrivals
    due = records.where_known("scheduled_ns").ints("scheduled_ns")
    if asked is None or asked.epoch_ns is None or not len(due):
        return None
    epoch, seed = asked.epoch_ns, int(manifest.scenario["seed"])
    # One beyond the last, as clocks are put together with some uncertainty.
    until = int(due.max()) - epoch + MS
    times = schedule(asked.process, asked.rate, asked.cv, seed)
    return epoch + np.fromiter(takewhile(lambda at: at <= until, times), dtype=np.int64)


def _stream_load(manifest: Manifest, records: Records) -> StreamLoad | None:
    """Return the load of the busiest process, where it is of the kind that is calibrated.

    TLS costs a client more than a plain socket, and other hosts are other machines.
    """
    if manifest.host.startswith("https:") or len({w.host for w in manifest.workers}) > 1:
        return None
    measured = records.where(records.equal("phase", Phase.MEASURE))
    made_by = measured.ints("worker")
    streams = max((peak_in_flight(measured.where(made_by == worker)) for worker in np.unique(made_by)), default=0)
    return stream_load(measured, streams, manifest.itl_share)


def _speed_figures(manifest: Manifest, evidence: Evidence, verdict: Verdict, latencies: Latency) -> dict[str, Any]:
    del verdict, latencies
    return {"speed": _speed(evidence.ok), "energy": energy.whole(manifest, evidence.ok)}


def _rate_figures(manifest: Manifest, evidence: Evidence, verdict: Verdict, latencies: Latency) -> dict[str, Any]:
    del verdict, latencies
    assert evidence.arrivals is not None
    found = rate(evidence.arrivals, evidence.measured, _slo(manifest))
    return {"rate": found, "energy": energy.whole(manifest, evidence.ok)}


def _throughput_figures(manifest: Manifest, evidence: Evidence, verdict: Verdict, latencies: Latency) -> dict[str, Any]:
    """Return all steps, and what follows from them; a plain closed loop is one, measured while all users were at work.

    There is none where the number of users was changed: no figure could say of how many users it is.
    """
    slo = _slo(manifest)
    whole = None if evidence.steps else latencies
    found = [
        steps.step(load, evidence.measured, slo, verdict, thinks=evidence.thinks, whole=whole)
        for load in evidence.loads
    ]
    if evidence.steps:
        found = [_with_energy(manifest, step, load) for step, load in zip(found, evidence.loads, strict=True)]
    else:
        found = [replace(s, steady=None) for s in found if s.window_seconds is not None]
    best = steps.throughput(found, None if evidence.users_changed else evidence.users)
    used = next((s.energy for s in found if s.concurrency == best.at_concurrency), None)
    return {"steps": found, "throughput": best, "energy": used}


def _with_energy(manifest: Manifest, step: StepSummary, load: StepFacts) -> StepSummary:
    used = None if load.window_ns is None else energy.of_step(manifest, Window(*load.window_ns), step)
    return replace(step, energy=used)


_FIGURES: Mapping[Kind, Callable[[Manifest, Evidence, Verdict, Latency], dict[str, Any]]] = {
    "speed": _speed_figures,
    "throughput": _throughput_figures,
    "rate": _rate_figures,
}
"""What a run was made for, by its kind: fields of the summary beside those that all runs have."""


def _speed(ok: Records) -> Speed:
    ordered = ok.sorted_by("sent_ns")
    counted = ordered.where((ordered.ints("output_tokens") > 0) & (ordered.figure(metrics.E2E) > 0))
    seconds = counted.figure(metrics.E2E) / 1e3
    found = speed(counted.ints("output_tokens").tolist(), seconds.tolist())
    return Speed(
        tokens_per_second_mean=None if found.mean is None else steps.shown(found.mean),
        tokens_per_second_total=None if found.total is None else steps.shown(found.total),
        no_interval=found.no_interval,
    )


def _window(evidence: Evidence, best: ThroughputSummary | None) -> Window | None:
    """Return the window in which the throughput of the run was measured; None where it has none."""
    if best is None or best.requests_per_minute is None:
        return None
    at = best.at_concurrency
    return next(Window(*f.window_ns) for f in evidence.loads if f.concurrency == at and f.window_ns is not None)


def _instrument(manifest: Manifest, ok: Records) -> InstrumentSummary:
    return InstrumentSummary(
        **_health(manifest.instruments, ok),
        lacks=manifest.environment.get("lacks", []),
        timestamp_source="+".join(sorted(ok.tally("stamp"))) or None,
        interval_ms=Widths(
            first_token=_widths(ok, "first_token_interval_ns"),
            last_token=_widths(ok, "last_token_interval_ns"),
            end=_widths(ok, "end_interval_ns"),
        ),
        itl_share=manifest.itl_share,
        streams_read_token_by_token=int(ok.known("chunk_ns").sum()),
        streams=int(ok.known("first_token_ns").sum()),
        replaced_connections=int(ok.equal("connection", "replaced").sum()),
        calibration=_calibration(manifest),
        workers=[
            WorkerHealth(worker=i.worker, **_health([i], ok.where(ok.ints("worker") == i.worker)))
            for i in manifest.instruments
        ],
    )


def _health(instruments: Sequence[Instrument], ok: Records) -> dict[str, Any]:
    """Return how some processes of the load generator were, as the fields of ``Health``; of several the worst."""
    delays = ok.where_known("read_delay_ns").ints("read_delay_ns") / MS
    counts = ChunkCounts.of(ok)
    lag = LoopLag(
        p50=_worst(i.loop_lag_p50_ms for i in instruments),
        p99=_worst(i.loop_lag_p99_ms for i in instruments),
        max=_worst(i.loop_lag_max_ms for i in instruments),
    )
    return {
        "loop_lag_ms": None if lag.max is None else lag,
        "cpu_seconds": _total(i.cpu_seconds for i in instruments),
        "cpu_share": _worst(i.cpu_share for i in instruments),
        "gc_pauses": _total(i.gc_pauses for i in instruments),
        "gc_longest_ms": _worst(i.gc_longest_ms for i in instruments),
        "read_delay_ms": ReadDelay(p50=percentile(delays, 0.5), max=float(delays.max())) if len(delays) else None,
        # Neither the SDK nor a lazily drained stream shows what was read together.
        "coalesced_reads": counts.shared if counts.chunks else None,
        "chunks": counts.chunks or None,
    }


def _calibration(manifest: Manifest) -> Calibration | None:
    """Return the envelope that this machine was measured to hold."""
    if manifest.calibration is None:
        return None
    held = manifest.calibration.held
    return Calibration(made_at=manifest.calibration.made_at, held=held, text=described(held))


def _widths(ok: Records, name: str) -> Width | None:
    """Return how wide the intervals are in which arrivals are known, ms."""
    known = ok.where_known(name).ints(name) / MS
    return Width(mean=fmean(known.tolist()), max=float(known.max())) if len(known) else None


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None

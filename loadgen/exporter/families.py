"""A run's totals as Prometheus has them: the names of ``llmload_*``."""

import time
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar as TheirExemplar

from loadgen.exporter import by_name
from loadgen.exporter.buckets import BOUNDS_S, coarse, cumulative
from loadgen.exporter.totals import Exemplar, Totals
from loadgen.measure.check import OBJECTIONS
from loadgen.measure.histogram import Histogram
from loadgen.measure.verdict import Verdict
from loadgen.metrics import EXPORTED
from loadgen.record import Outcome
from loadgen.slo import parse_slo

STATES = ("warming up", "measuring", "draining", "ended")
SILENT_S = 10.0
"""A process that has told nothing for so long is not known to do what it did."""

_ERRORS = (
    "Measured requests that failed; rate_limited: HTTP 429 or 529; client_limit: this machine had no local port or "
    "open file left"
)
_NAMES = ("run_id", "model", "engine")
_CHECK = ("check", "status")
_ABOUT = ("endpoint", "kind", "dataset", "reservation")


def families(totals: Totals) -> Iterator[Metric]:
    """Yield all metrics of a run."""
    yield from _run(totals)
    yield from _counters(totals)
    yield from _histograms(totals)
    yield from _sizes(totals)
    yield from by_name.families(totals.by_name, _NAMES, _labels(totals))
    yield from _load(totals)
    yield from _workers(totals)


def _labels(totals: Totals) -> list[str]:
    return [totals.begun.run_id, totals.begun.model, totals.begun.engine]


def _run(totals: Totals) -> Iterator[Metric]:
    begun, own = totals.begun, _labels(totals)
    info = GaugeMetricFamily("llmload_run_info", "What is run", labels=[*_NAMES, *_ABOUT])
    info.add_metric([*own, begun.endpoint, begun.run_kind, begun.dataset, begun.reservation], 1)
    yield info
    yield _gauge("run_start_timestamp_seconds", "When the run began", own, begun.at)
    if begun.price_per_gpu_hour is not None:
        yield _gauge("price_per_gpu_hour", "Of one GPU, in some currency, as told", own, begun.price_per_gpu_hour)
    yield _choice("run_state", "What the run is doing", own, "state", STATES, totals.state)
    verdict = totals.verdict or (None if totals.now is None else totals.now.verdict)
    known = [one.value for one in Verdict]
    yield _choice("verdict", "The verdict, so far or in the end", own, "status", known, verdict)
    objection = GaugeMetricFamily(
        "llmload_objection",
        "Whether a check of the verdict objects so, so far or in the end",
        labels=[*_NAMES, *_CHECK],
    )
    for check, status in totals.checks.items():
        for possible in OBJECTIONS:
            objection.add_metric([*own, check, possible.value], float(status == possible))
    yield objection


def _counters(totals: Totals) -> Iterator[Metric]:
    own = _labels(totals)
    yield _counter("requests_started", "Requests made, the warm-up's among them", own, totals.started)
    by_outcome = {outcome.value: totals.outcomes[outcome] for outcome in Outcome}
    yield _counters_by("requests", "Measured requests that have ended", own, "outcome", by_outcome)
    errors = {outcome: count for outcome, count in by_outcome.items() if outcome != Outcome.OK.value}
    yield _counters_by("errors", _ERRORS, own, "kind", errors)
    tokens = {kind: sizes.total for kind, sizes in totals.sizes.items() if sizes.known}
    tokens |= {} if totals.cached is None else {"cached": totals.cached}
    yield _counters_by("tokens", "Tokens of measured requests", own, "type", tokens)
    yield _counter("chunks", "Chunks of streams that were read token by token", own, totals.chunks)
    yield _counter("coalesced_chunks", "Those of them that were read with a later one", own, totals.coalesced)
    if totals.begun.slo is not None:
        yield _counter("good_requests", "Answers within all limits of --slo", own, totals.good)
        misses = {key: totals.misses[key] for key in parse_slo(totals.begun.slo).limits}
        yield _counters_by("slo_miss", "Answers beyond a limit of --slo", own, "slo", misses)


def _histograms(totals: Totals) -> Iterator[Metric]:
    for metric in EXPORTED:
        histogram, exemplars = totals.latencies[metric.key], totals.exemplars.get(metric.key, {})
        yield _histogram(metric.histogram, metric.about.rstrip("."), _labels(totals), histogram, exemplars)
    if totals.begun.rate is not None:
        text = "From when a request was due to when it was sent"
        yield _histogram("llmload_schedule_lag_seconds", text, _labels(totals), totals.lag, {})


def _sizes(totals: Totals) -> Iterator[Metric]:
    for kind, sizes in totals.sizes.items():
        if not sizes.known:
            continue
        family = HistogramMetricFamily(f"llmload_{kind}_tokens", f"Tokens of a request's {kind}", labels=_NAMES)
        family.add_metric(_labels(totals), buckets=sizes.buckets(), sum_value=sizes.total)
        yield family


def _load(totals: Totals) -> Iterator[Metric]:
    own = _labels(totals)
    heard = totals.heard(SILENT_S)
    if heard:
        in_flight = sum(report.in_flight for report in heard)
        yield _gauge("in_flight_requests", "Requests that wait for the end of their answer", own, in_flight)
    if totals.begun.rate is not None:
        yield _gauge("target_request_rate", "Requests per second, as asked for", own, totals.begun.rate)
    elif there := [report.users for report in heard if report.users is not None]:
        yield _gauge("users", "Users that there are", own, sum(there))
    if totals.now is None:
        return
    if totals.now.users is not None:
        yield _gauge("target_users", "Users that make requests at a time", own, totals.now.users)
    if totals.now.step is None:
        return
    yield _gauge("step", "Index of the step of the load", own, totals.now.step)
    began = GaugeMetricFamily(
        "llmload_step_start_timestamp_seconds", "When a step began", labels=[*_NAMES, "step", "users"]
    )
    active = GaugeMetricFamily(
        "llmload_step_active", "Whether a step is the present one", labels=[*_NAMES, "step", "users"]
    )
    for step in totals.steps:
        users = "" if step.users is None else str(step.users)
        began.add_metric([*own, str(step.number), users], step.began)
        is_present = step.number == totals.now.step and totals.state != "ended"
        active.add_metric([*own, str(step.number), users], float(is_present))
    yield began
    yield active


def _workers(totals: Totals) -> Iterator[Metric]:
    run, names, now = totals.begun.run_id, ("run_id", "worker"), time.monotonic()
    cpu = GaugeMetricFamily("llmload_worker_cpu_ratio", "CPU time over wall time of a process", labels=names)
    busy = GaugeMetricFamily("llmload_worker_in_flight_requests", "Requests in flight of a process", labels=names)
    users = GaugeMetricFamily("llmload_worker_users", "Users of a process", labels=names)
    age = GaugeMetricFamily("llmload_worker_report_age_seconds", "Since a process reported", labels=names)
    for number, (at, report) in sorted(totals.workers.items()):
        own = [run, str(number)]
        if report.is_last:
            continue
        age.add_metric(own, now - at)
        if now - at > SILENT_S:
            continue
        busy.add_metric(own, report.in_flight)
        if report.cpu_share is not None:
            cpu.add_metric(own, report.cpu_share)
        if report.users is not None and totals.begun.rate is None:
            users.add_metric(own, report.users)
    yield from (cpu, busy, users, age)
    yield _loop_lags(totals)
    if totals.now is not None:
        there = GaugeMetricFamily("llmload_workers", "Processes that make requests", labels=["run_id", "state"])
        there.add_metric([run, "ready"], totals.now.workers - totals.now.lost)
        there.add_metric([run, "lost"], totals.now.lost)
        yield there


def _loop_lags(totals: Totals) -> Metric:
    text = "Lateness of a process's loop"
    family = HistogramMetricFamily("llmload_worker_event_loop_lag_seconds", text, labels=["run_id", "worker"])
    for number, lags in sorted(totals.loop_lags.items()):
        family.add_metric([totals.begun.run_id, str(number)], buckets=coarse(lags), sum_value=lags.total / 1000)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], value: float) -> Metric:
    family = GaugeMetricFamily(f"llmload_{name}", text, labels=_NAMES)
    family.add_metric(labels, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], value: float) -> Metric:
    family = CounterMetricFamily(f"llmload_{name}", text, labels=_NAMES)
    family.add_metric(labels, value)
    return family


def _counters_by(name: str, text: str, labels: Sequence[str], by: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"llmload_{name}", text, labels=[*_NAMES, by])
    for value, count in values.items():
        family.add_metric([*labels, value], count)
    return family


def _choice(name: str, text: str, labels: Sequence[str], by: str, choices: Iterable[str], chosen: str | None) -> Metric:
    """One of several: 1 for that, 0 for the others."""
    family = GaugeMetricFamily(f"llmload_{name}", text, labels=[*_NAMES, by])
    for choice in choices:
        family.add_metric([*labels, choice], float(choice == chosen))
    return family


def _histogram(
    name: str, text: str, labels: Sequence[str], histogram: Histogram, exemplars: dict[int, Exemplar]
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=_NAMES)
    buckets: list[object] = []
    for number, (bound, count) in enumerate(zip(BOUNDS_S, cumulative(histogram), strict=True)):
        buckets.append(_bucket(f"{bound:.6g}", count, exemplars.get(number)))
    buckets.append(_bucket("+Inf", histogram.count, exemplars.get(len(BOUNDS_S))))
    family.add_metric(labels, buckets=buckets, sum_value=histogram.total / 1000)  # type: ignore[arg-type]  # exemplars
    return family


def _bucket(bound: str, count: int, exemplar: Exemplar | None) -> list[object]:
    if exemplar is None:
        return [bound, count]
    return [bound, count, TheirExemplar({"trace_id": exemplar.trace_id}, exemplar.value_ms / 1000, exemplar.at)]

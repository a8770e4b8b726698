"""What is seen of a run while it goes on: totals, the last seconds, a point of each second, the steps so far."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from typing import Any

import msgspec

from loadgen.measure.evidence import SoFar
from loadgen.measure.facts import StepFacts
from loadgen.measure.gaps import ChunkCounts
from loadgen.measure.histogram import Histogram
from loadgen.measure.intervals import distribution_of_series
from loadgen.measure.latency import latency
from loadgen.measure.process_report import ProcessReport
from loadgen.measure.statistics import QUANTILES, SMALLEST_SAMPLE
from loadgen.measure.watch import StepWindow, longest_step_s
from loadgen.metrics import EXPORTED, ICL, ITL, OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE
from loadgen.record import Outcome, Phase, RequestRecord

RECENT = 10
"""Seconds that live figures look back on."""

LAST = f"last {RECENT} s"
"""How live figures are labelled."""

MOST_POINTS = 900
"""Of a series; beyond it every second one is dropped, and from then on half as many are added."""

SHOWN = (*EXPORTED, ICL)
"""Latencies that charts may show: of the gaps between chunks the one that they are."""

_PERCENTILES = {name: QUANTILES[name] for name in ("p50", "p90", "p99")}


class Second:
    """What has ended in one second."""

    def __init__(self) -> None:
        self.answers = 0
        self.tokens = 0
        self.latencies = {metric.key: Histogram() for metric in EXPORTED}


class LiveStats:
    """Follows one run. Everything is kept as sums and histograms, so that it costs next to nothing."""

    def __init__(self, planned: int | None, warmup: int, run_time_s: float | None) -> None:
        self.state = "warming up"
        """As the run's state is called; it is set by whoever conducts the run."""
        self.planned = planned
        self.warmup = warmup
        self.warmed = 0
        """Requests of the warm-up that have ended."""
        self.run_time_s = run_time_s
        self.outcomes: Counter[Outcome] = Counter()
        self.loop_lags: dict[int, Histogram] = defaultdict(Histogram)
        """Lateness of each process's loop so far, ms."""
        self.chunk_counts = ChunkCounts()
        """Of measured requests."""
        self.steps: list[dict[str, Any]] = []
        self.step: int | None = None
        self.known_steps: int | None = None
        self.concurrency: int | None = None
        self.began = time.monotonic()
        self._step_began = 0.0
        self._step_time_s = 0.0
        self._reported: dict[int, tuple[float, ProcessReport]] = {}
        self._second = Second()
        self._seconds: deque[Second] = deque(maxlen=RECENT)
        self._ticked = int(time.monotonic())
        self._points: list[dict[str, Any]] = []
        self._stride = 1
        self._skipped = 0

    @property
    def elapsed_s(self) -> float:
        """Since the start of the run."""
        return time.monotonic() - self.began

    @property
    def in_flight(self) -> int:
        """Requests of all processes now."""
        return sum(report.in_flight for _, report in self._reported.values())

    @property
    def done(self) -> int:
        """Measured requests that have ended."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Failed measured requests; aborted and dropped ones are not failures."""
        return self.done - sum(self.outcomes[o] for o in (Outcome.OK, Outcome.ABORTED, Outcome.DROPPED))

    def so_far(self, lost: Sequence[str]) -> SoFar:
        """Return what the checks look at while the run goes on; ``lost``: workers, each with what became of it."""
        lags = [lags.quantile(_PERCENTILES["p99"]) for lags in self.loop_lags.values() if lags.count]
        shares = [report.cpu_share for _, report in self._reported.values() if report.cpu_share is not None]
        return SoFar(
            ended=self.done,
            failed=self.failed,
            lost=lost,
            loop_lag_p99_ms=max(lags, default=None),
            cpu_share=max(shares, default=None),
            chunks=self.chunk_counts.chunks,
            shared_chunks=self.chunk_counts.shared,
            steps=len(self.steps),
            unsteady=[step["concurrency"] for step in self.steps if step["steady"] is False],
        )

    def begin_step(self, number: int, known: int | None, concurrency: int, step_time_s: float) -> None:
        """Follow the next step of the load."""
        self.step, self.known_steps, self.concurrency = number, known, concurrency
        self._step_began, self._step_time_s = time.monotonic(), step_time_s

    def end_step(self, facts: StepFacts, found: StepWindow, records: Sequence[RequestRecord]) -> None:
        """Take what was found in a step; ``records``: those of its window."""
        ok = [r for r in records if r.outcome is Outcome.OK]
        rate, speed = found.throughput.requests_per_minute, found.throughput.tokens_per_second
        self.steps.append(
            {
                "step": facts.number,
                "concurrency": facts.concurrency,
                "failed": sum(r.outcome is not Outcome.OK for r in records),
                "requests_per_minute": None if rate is None else {"value": rate.value, "ci95": rate.ci95},
                "output_tokens_per_second": None if speed is None else speed.value,
                # Plain, as all that the page gets: Flask cannot write structs.
                "latency": msgspec.to_builtins(latency(ok, distribution_of_series)),
                "steady": None if facts.undecided else facts.unsteady is None,
            }
        )

    def take(self, report: ProcessReport) -> None:
        """Take a process's report."""
        self._reported[report.worker] = time.monotonic(), report
        if report.loop_lag is not None:
            self.loop_lags[report.worker].merge(Histogram.from_wire(report.loop_lag))
        measured = [r for r in report.records if r.phase is Phase.MEASURE]
        self.chunk_counts.add(measured)
        for r in measured:
            self.outcomes[r.outcome] += 1
            self._second.answers += r.outcome is Outcome.OK
            self._second.tokens += r.output_tokens or 0
        for name, wire in report.histograms.items():
            self._second.latencies[name].merge(Histogram.from_wire(wire))

    def tick(self) -> None:
        """Add a point if a second has passed."""
        second = int(time.monotonic())
        if second == self._ticked:
            return
        self._ticked = second
        self._seconds.append(self._second)
        self._second = Second()
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self._points.append(self._point())
        if len(self._points) > MOST_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    @property
    def progress(self) -> float | None:
        """Share of the run, or of its step, that is done; None where nobody knows."""
        if self.state == "warming up":
            return self.warmed / self.warmup if self.warmup else None
        if self.step is not None:
            return min(1.0, (time.monotonic() - self._step_began) / self._step_time_s)
        if self.planned is not None:
            return self.done / self.planned
        return min(1.0, self.elapsed_s / self.run_time_s) if self.run_time_s else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until the end: of a sweep at most, of planned requests at the pace so far; None if not known."""
        ends = [] if self.run_time_s is None else [self.run_time_s - self.elapsed_s]
        if self.step is not None and self.known_steps is not None:
            steps = self.known_steps - self.step
            ends.append(steps * longest_step_s(self._step_time_s) - (time.monotonic() - self._step_began))
        elif self.planned is not None and self.state == "measuring" and self.done:
            ends.append(self.elapsed_s * (self.planned - self.done) / self.done)
        return max(0.0, min(ends)) if ends else None

    def latency(self) -> dict[str, dict[str, float]]:
        """Return the percentiles of the last seconds that their number supports, ms."""
        found = {metric.key: _percentiles(self._recent(metric.key)) for metric in EXPORTED}
        gaps, gap_metric = found.pop(ITL.key), self.chunk_counts.metric
        return found if gap_metric is None else found | {gap_metric.key: gaps}

    def output_tokens_per_second(self) -> float | None:
        """Return output tokens of the answers that ended in the last seconds, per second."""
        return sum(s.tokens for s in self._seconds) / len(self._seconds) if self._seconds else None

    def requests_per_minute(self) -> float | None:
        """Return answers that ended in the last seconds, per minute."""
        return 60 * sum(s.answers for s in self._seconds) / len(self._seconds) if self._seconds else None

    def now(self) -> dict[str, Any]:
        """Return what is going on."""
        return {
            "elapsed_s": self.elapsed_s,
            "step": self.step,
            "steps": self.known_steps,
            "concurrency": self.concurrency,
            "progress": self.progress,
            "eta_s": self.eta_s,
            "in_flight": self.in_flight,
            "started": sum(report.started for _, report in self._reported.values()),
            "completed": self.outcomes[Outcome.OK],
            "failed": self.failed,
            "aborted": self.outcomes[Outcome.ABORTED],
            "dropped": self.outcomes[Outcome.DROPPED],
            OUTPUT_TOKENS_PER_SECOND.key: self.output_tokens_per_second(),
            REQUESTS_PER_MINUTE.key: self.requests_per_minute(),
            "latency": self.latency(),
        }

    def series(self) -> dict[str, Any]:
        """Return the points so far, a list for each series; None is a gap."""
        plain = ("t_s", "in_flight", "concurrency", OUTPUT_TOKENS_PER_SECOND.key, REQUESTS_PER_MINUTE.key)
        found: dict[str, Any] = {name: [point[name] for point in self._points] for name in plain}
        for metric in SHOWN:
            latencies = [point["latency"].get(metric.key, {}) for point in self._points]
            found[metric.key] = {p: [values.get(p) for values in latencies] for p in _PERCENTILES}
        return found

    def workers(self) -> list[dict[str, Any]]:
        """Return each process's state."""
        at = time.monotonic()
        return [
            {
                "worker": number,
                "report_age_s": at - reported,
                "in_flight": report.in_flight,
                "cpu_share": report.cpu_share,
            }
            for number, (reported, report) in sorted(self._reported.items())
        ]

    def _recent(self, name: str) -> Histogram:
        merged = Histogram()
        for second in self._seconds:
            merged.merge(second.latencies[name])
        return merged

    def _point(self) -> dict[str, Any]:
        return {
            "t_s": round(self.elapsed_s, 1),
            "in_flight": self.in_flight,
            "concurrency": self.concurrency,
            OUTPUT_TOKENS_PER_SECOND.key: self.output_tokens_per_second(),
            REQUESTS_PER_MINUTE.key: self.requests_per_minute(),
            "latency": self.latency(),
        }


def _percentiles(histogram: Histogram) -> dict[str, float]:
    """Return n and the percentiles that n values support."""
    found: dict[str, float] = {"n": histogram.count}
    for name, quantile in _PERCENTILES.items():
        if histogram.count >= SMALLEST_SAMPLE[name]:
            found[name] = histogram.quantile(quantile)
    return found

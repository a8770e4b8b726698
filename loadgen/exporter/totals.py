"""What a run comes to so far: counters that only grow, and distributions of the whole run."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from loadgen.clock import MS
from loadgen.exporter.buckets import bucket_of
from loadgen.exporter.by_name import ByName
from loadgen.exporter.feed import Begin, End, Message, Tick
from loadgen.exporter.sizes import Sizes
from loadgen.measure.goodput import meets
from loadgen.measure.histogram import Histogram
from loadgen.measure.process_report import ProcessReport
from loadgen.metrics import EXPORTED, FROM_SEND, PER_REQUEST
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.slo import Slo, parse_slo


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One request that stands for a bucket."""

    trace_id: str
    value_ms: float
    at: float
    """Wall time, s."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the load."""

    number: int
    users: int | None
    began: float
    """Wall time, s."""


@dataclass
class Totals:
    """One run."""

    begun: Begin
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Of measured requests, as all that follows."""
    sizes: dict[str, Sizes] = field(default_factory=lambda: {"input": Sizes(), "output": Sizes()})
    cached: int | None = None
    """Prompt tokens that servers say they had in a cache; None as long as none says so."""
    chunks: int = 0
    coalesced: int = 0
    good: int = 0
    misses: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, Histogram] = field(default_factory=lambda: {m.key: Histogram() for m in EXPORTED})
    by_name: ByName = field(default_factory=ByName)
    lag: Histogram = field(default_factory=Histogram)
    """Sent after scheduled, ms; of an open loop."""
    exemplars: dict[str, dict[int, Exemplar]] = field(default_factory=lambda: {m.key: {} for m in FROM_SEND})
    """The last request of each bucket that is exported."""
    workers: dict[int, tuple[float, ProcessReport]] = field(default_factory=dict)
    """The last that each process told, and when, monotonic s."""
    loop_lags: dict[int, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    """Of each process, ms."""
    steps: list[Step] = field(default_factory=list)
    now: Tick | None = None
    verdict: str | None = None
    """The final one."""
    checks: dict[str, str] = field(default_factory=dict)
    """What each of its checks says, so far or in the end."""
    _slo: Slo | None = None

    def __post_init__(self) -> None:
        self._slo = parse_slo(self.begun.slo) if self.begun.slo else None

    @property
    def started(self) -> int:
        """Requests of all processes, those that are lost among them."""
        return sum(report.started for _, report in self.workers.values())

    def heard(self, age_s: float) -> list[ProcessReport]:
        """Return what processes told last that have told something since so long: what the others do is not known."""
        since = time.monotonic() - age_s
        return [report for at, report in self.workers.values() if at >= since or report.is_last]

    @property
    def state(self) -> str:
        """What the run is doing."""
        if self.verdict is not None:
            return "ended"
        return "warming up" if self.now is None else self.now.state

    def take(self, message: Message) -> None:
        """Take what a run tells, all but its beginning."""
        if isinstance(message, ProcessReport):
            self._take_report(message)
        elif isinstance(message, Tick):
            self._take_tick(message)
        elif isinstance(message, End):
            self.verdict, self.checks = message.verdict, message.checks

    def _take_tick(self, tick: Tick) -> None:
        self.now, self.checks = tick, tick.checks
        if tick.step is not None and (not self.steps or self.steps[-1].number != tick.step):
            self.steps.append(Step(tick.step, tick.users, tick.at))

    def _take_report(self, report: ProcessReport) -> None:
        self.workers[report.worker] = time.monotonic(), report
        if report.loop_lag is not None:
            self.loop_lags[report.worker].merge(Histogram.from_wire(report.loop_lag))
        for name, wire in report.histograms.items():
            self.latencies[name].merge(Histogram.from_wire(wire))
        measured = [r for r in report.records if r.phase is Phase.MEASURE]
        lags = [(r.sent_ns - r.scheduled_ns) / MS for r in measured if r.sent_ns and r.scheduled_ns]
        self.lag.add(lags)
        self.by_name.take(measured)
        for record in measured:
            self._take_record(record)

    def _take_record(self, r: RequestRecord) -> None:
        self.outcomes[r.outcome] += 1
        for kind, tokens in (("input", r.input_tokens), ("output", r.output_tokens)):
            if tokens is not None:
                self.sizes[kind].add(tokens)
        if r.cached_tokens is not None:
            self.cached = (self.cached or 0) + r.cached_tokens
        if r.coalesced_chunks is not None:
            self.chunks += r.chunks or 0
            self.coalesced += r.coalesced_chunks
        values = {m.key: m.of(r) for m in PER_REQUEST if m.of is not None}
        for metric in FROM_SEND:
            value = values[metric.key]
            if value is not None and r.trace_id is not None:
                self.exemplars[metric.key][bucket_of(value)] = Exemplar(r.trace_id, value, time.time())
        if self._slo is None or r.outcome is not Outcome.OK:
            return
        self.good += meets(r, self._slo)
        for key, limit in self._slo.limits.items():
            value = values[key]
            self.misses[key] += value is not None and value > limit

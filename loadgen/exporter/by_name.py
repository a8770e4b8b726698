"""What the requests of each name come to so far, and its metrics: those of a run, with the label ``name``."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from loadgen.exporter.buckets import coarse
from loadgen.exporter.sizes import Sizes
from loadgen.measure.histogram import Histogram
from loadgen.measure.names import FirstNames
from loadgen.metrics import FROM_SEND
from loadgen.record import Outcome, RequestRecord


@dataclass
class OneName:
    """The measured requests of one name."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    latencies: dict[str, Histogram] = field(default_factory=lambda: {m.key: Histogram() for m in FROM_SEND})
    output: Sizes = field(default_factory=Sizes)

    def take(self, records: Sequence[RequestRecord]) -> None:
        """Count requests that have ended."""
        self.outcomes.update(r.outcome for r in records)
        for metric in FROM_SEND:
            assert metric.of is not None
            self.latencies[metric.key].add([value for r in records if (value := metric.of(r)) is not None])
        for r in records:
            if r.output_tokens is not None:
                self.output.add(r.output_tokens)


class ByName:
    """The requests of a run by name. Those without a name, or with a name after the first 32, count together."""

    def __init__(self) -> None:
        self.totals: dict[str, OneName] = defaultdict(OneName)
        self.is_named = False
        """Whether any request has a name."""
        self._names = FirstNames()

    def take(self, measured: Sequence[RequestRecord]) -> None:
        """Count measured requests that have ended."""
        self.is_named = self.is_named or any(r.name for r in measured)
        groups: dict[str, list[RequestRecord]] = defaultdict(list)
        for r in measured:
            groups[self._names.label_of(r.name)].append(r)
        for label, records in groups.items():
            self.totals[label].take(records)


def families(by_name: ByName, labels: Sequence[str], values: Sequence[str]) -> Iterator[Metric]:
    """Yield the metrics, none as long as no request has a name; ``labels`` and ``values``: those of the run."""
    if not by_name.is_named:
        return
    names = [*labels, "name"]
    requests = CounterMetricFamily(
        "llmload_requests_by_name", "Measured requests that have ended", labels=[*names, "outcome"]
    )
    latencies = {
        m.key: HistogramMetricFamily(m.histogram_by_name, m.about.rstrip("."), labels=names) for m in FROM_SEND
    }
    output = HistogramMetricFamily("llmload_output_tokens_by_name", "Tokens of a request's output", labels=names)
    for name, totals in by_name.totals.items():
        own = [*values, name]
        for outcome in Outcome:
            requests.add_metric([*own, outcome.value], totals.outcomes[outcome])
        for key, family in latencies.items():
            histogram = totals.latencies[key]
            family.add_metric(own, buckets=coarse(histogram), sum_value=histogram.total / 1000)
        if totals.output.known:
            output.add_metric(own, buckets=totals.output.buckets(), sum_value=totals.output.total)
    yield from (requests, *latencies.values(), output)

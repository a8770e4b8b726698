"""A run's totals by OpenTelemetry's names for clients of generative AI, spelt as its Prometheus exporter spells them.

semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md, status Development: four histograms, with the conventions'
own bounds, coarser than ours.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric

from loadgen.exporter.buckets import BOUNDS_S, cumulative
from loadgen.exporter.totals import Totals
from loadgen.measure.histogram import Histogram
from loadgen.metrics import EXPORTED

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_NAMES = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "run_id")


def families(totals: Totals) -> Iterator[Metric]:
    """Yield all metrics of a run."""
    labels = ["chat", totals.begun.engine, totals.begun.model, totals.begun.run_id]
    for metric in EXPORTED:
        if metric.otel is None:
            continue
        family = HistogramMetricFamily(metric.otel, metric.about.rstrip("."), labels=_NAMES)
        histogram = totals.latencies[metric.key]
        family.add_metric(labels, buckets=_buckets(histogram), sum_value=histogram.total / 1000)
        yield family
    usage = HistogramMetricFamily(
        "gen_ai_client_token_usage", "Tokens of a request", labels=[*_NAMES, "gen_ai_token_type"]
    )
    for kind, sizes in totals.sizes.items():
        if not sizes.known:
            continue
        usage.add_metric([*labels, kind], buckets=sizes.buckets(), sum_value=sizes.total)
    yield usage


def _buckets(histogram: Histogram) -> Sequence[tuple[str, float]]:
    """Return the counts up to the conventions' bounds, by the finer bound that is next below each."""
    counts = cumulative(histogram)
    found = [(f"{bound:g}", float(_below(counts, bound))) for bound in SECONDS]
    return [*found, ("+Inf", float(histogram.count))]


def _below(counts: Sequence[int], bound: float) -> int:
    place = bisect_right(BOUNDS_S, bound)
    return counts[place - 1] if place else 0

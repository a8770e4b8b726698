"""PromQL that several dashboards ask.

Percentiles are left out where the values are too few for them. What is rated is rated over ``$__rate_interval``.
``... >= 0`` leaves out NaN, which a quantile of nothing is;
``x / (y > 0)`` leaves out what nothing divides.
"""

from boards.panels import Query
from loadgen.measure.statistics import QUANTILES as ALL_QUANTILES
from loadgen.measure.statistics import SMALLEST_SAMPLE

RUN = 'run_id="$run_id"'
RUNS = 'run_id=~"$runs"'
QUANTILES = {name: ALL_QUANTILES[name] for name in ("p50", "p90", "p99")}


def rate(metric: str, matchers: str = RUN, by: str = "") -> str:
    """Per second, now."""
    return f"{_sum(by)} (rate({metric}{{{matchers}}}[$__rate_interval]))"


def so_far(metric: str, matchers: str = RUN, by: str = "") -> str:
    """Sum of what counters of the run have come to by the end of the range that is shown."""
    return f"{_sum(by)} (last_over_time({metric}{{{matchers}}}[$__range]))"


def percentiles(histogram: str, *, exemplars: bool = False) -> list[Query]:
    """p50, p90 and p99 of what was measured lately; a gap where those are too few values."""
    return [Query(percentile_now(name, histogram), name, exemplars=exemplars and name == "p99") for name in QUANTILES]


def percentiles_so_far(histogram: str) -> list[Query]:
    """p50, p90 and p99 of the whole run so far, those for which there are enough values."""
    return [Query(percentile_so_far(name, histogram), name, instant=True) for name in QUANTILES]


def percentile_now(name: str, histogram: str, matchers: str = RUN, by: str = "") -> str:
    """One of them, of each of ``by``."""
    buckets = rate(f"{histogram}_bucket", matchers, ", ".join(filter(None, [by, "le"])))
    count = f"{_sum(by)} (increase({histogram}_count{{{matchers}}}[$__rate_interval]))"
    return _percentile(name, buckets, count, by)


def percentile_so_far(name: str, histogram: str, matchers: str = RUN, by: str = "") -> str:
    """One of them, of each of ``by``."""
    buckets = so_far(f"{histogram}_bucket", matchers, ", ".join(filter(None, [by, "le"])))
    return _percentile(name, buckets, so_far(f"{histogram}_count", matchers, by), by)


def _percentile(name: str, buckets: str, count: str, by: str) -> str:
    return f"histogram_quantile({QUANTILES[name]}, {buckets}) >= 0 and on ({by}) {count} >= {SMALLEST_SAMPLE[name]}"


_AROUND = 1.5
"""How far a heat map goes beyond its values, as a factor: four buckets on each side."""


def cells(histogram: str) -> Query:
    """Return the buckets of a histogram for a heat map: those around the values of the whole range.

    All buckets span seven decades, which would leave a narrow band; one bucket alone would fill the panel. Values above
    the last finite bound (10 minutes) are not shown.
    """
    rated = rate(f"{histogram}_bucket", f'{RUN}, le!="+Inf"', "le")
    counted = f"sum by (le) (last_over_time({histogram}_bucket{{{RUN}}}[$__range] @ end()))"
    # The rank of the least value must be above 0, where a quantile is 0.
    least, greatest = (f"scalar(histogram_quantile({rank}, {counted}))" for rank in (1e-9, 1))
    bounds = _bounds(f'{histogram}_bucket{{{RUN}, le!="+Inf"}}')
    shown = f"{bounds} >= {1 / _AROUND:.2f} * {least} <= {_AROUND} * {greatest}"
    return Query(f'{rated} and on (le) label_replace({shown}, "le", "$1", "bound", "(.+)")', "{{le}}", "heatmap")


def _bounds(buckets: str) -> str:
    """Return the bounds of buckets as numbers, with the label ``bound``.

    PromQL has no function that reads a number from a label. The maximum of a histogram with one value and one finite
    bucket is the bound of this bucket, so each bound is made into such a histogram.
    """
    one = f"sum by (le) (last_over_time({buckets}[$__range] @ end())) * 0 + 1"
    finite = f'label_replace({one}, "bound", "$1", "le", "(.+)")'
    return f'histogram_quantile(1, {finite} or label_replace({finite}, "le", "+Inf", "", ""))'


def in_order_of(label: str, expr: str) -> str:
    """Return series with the label ``order``: a number of a label with leading zeros.

    Prometheus returns series in the order of their labels, as texts: 1, 16, 2.
    """
    padded = f'label_replace({expr}, "order", "00000$1", "{label}", "(.*)")'
    return f'label_replace({padded}, "order", "$1", "order", ".*(.{{6}})")'


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"

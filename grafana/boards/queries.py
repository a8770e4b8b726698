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


def cells(histogram: str) -> Query:
    """Return its buckets for a heat map, without those that have nothing in the whole range.

    They span seven decades, so that they would leave a heat map a narrow band. What is left is the buckets between the
    least and the greatest value, and +Inf, which then has those of the greatest value's bucket.
    """
    rated = rate(f"{histogram}_bucket", by="le")
    least = f"sum by (le) (last_over_time({histogram}_bucket{{{RUN}}}[$__range] @ end())) > 0"
    total = f"sum (last_over_time({histogram}_count{{{RUN}}}[$__range] @ end()))"
    last = f'sum by (le) (last_over_time({histogram}_bucket{{{RUN}, le="+Inf"}}[$__range] @ end()))'
    return Query(f"{rated} and on (le) ((({least}) < on () group_left () {total}) or {last})", "{{le}}", "heatmap")


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"

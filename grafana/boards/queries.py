"""PromQL that several dashboards ask.

What is rated is rated over ``$__rate_interval``. ``... >= 0`` leaves out NaN, which a quantile of nothing is;
``x / (y > 0)`` leaves out what nothing divides.
"""

from boards.panels import Query

RUN = 'run_id="$run_id"'
RUNS = 'run_id=~"$runs"'
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def rate(metric: str, matchers: str = RUN, by: str = "") -> str:
    """Per second, now."""
    return f"{_sum(by)} (rate({metric}{{{matchers}}}[$__rate_interval]))"


def so_far(metric: str, matchers: str = RUN, by: str = "") -> str:
    """Sum of what counters of the run have come to by the end of the range that is shown."""
    return f"{_sum(by)} (last_over_time({metric}{{{matchers}}}[$__range]))"


def percentiles(histogram: str, *, exemplars: bool = False) -> list[Query]:
    """p50, p90 and p99 of what was measured lately."""
    buckets = rate(f"{histogram}_bucket", by="le")
    return [
        Query(f"histogram_quantile({q}, {buckets}) >= 0", name, exemplars=exemplars and name == "p99")
        for name, q in QUANTILES.items()
    ]


def percentiles_so_far(histogram: str) -> list[Query]:
    """p50, p90 and p99 of the whole run so far."""
    buckets = so_far(f"{histogram}_bucket", by="le")
    return [Query(f"histogram_quantile({q}, {buckets}) >= 0", name, instant=True) for name, q in QUANTILES.items()]


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

"""Which requests count for goodput: those within every limit."""

from loadgen.metrics import LIMITS, Metric
from loadgen.record import Outcome, RequestRecord
from loadgen.slo import Slo


def meets(r: RequestRecord, slo: Slo) -> bool:
    """Return whether a request was answered within every limit; one that failed was not."""
    return r.outcome is Outcome.OK and all(
        _is_within(metric, r, slo.limits[metric.key]) for metric in LIMITS if metric.key in slo.limits
    )


def _is_within(metric: Metric, r: RequestRecord, limit: float) -> bool:
    """Return whether a value is at most the limit.

    A limit does not bind an answer that has no such value, as an answer of one token has no TPOT. But what a user waits
    for exists even if it was not observed, so without it the limit is not met.
    """
    assert metric.of is not None
    value = metric.of(r)
    return not metric.from_send if value is None else value <= limit

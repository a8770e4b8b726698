"""Which requests count for goodput: those within every limit."""

from math import nan
from typing import Any

from loadgen.measure.columns import Mask
from loadgen.measure.records import Records
from loadgen.metrics import LIMITS, Metric
from loadgen.record import Outcome, RequestRecord
from loadgen.slo import Slo


def meets(r: RequestRecord, slo: Slo) -> bool:
    """Return whether a request was answered within every limit; one that failed was not."""
    return r.outcome is Outcome.OK and all(
        _is_within(metric, _value(metric, r), slo.limits[metric.key]) for metric in LIMITS if metric.key in slo.limits
    )


def meeting(records: Records, slo: Slo) -> Mask:
    """Return of each request whether it :func:`meets` every limit."""
    found = records.equal("outcome", Outcome.OK)
    for metric in LIMITS:
        if metric.key in slo.limits:
            found &= _is_within(metric, records.figure(metric), slo.limits[metric.key])
    return found


def _value(metric: Metric, r: RequestRecord) -> float:
    assert metric.of is not None
    value = metric.of(r)
    return nan if value is None else value


def _is_within(metric: Metric, value: Any, limit: float) -> Any:  # noqa: ANN401 of one request, or an array
    """Return whether a value is at most the limit; nan stands for no value.

    A limit does not bind an answer that has no such value, as an answer of one token has no TPOT. But what a user waits
    for exists even if it was not observed, so without it the limit is not met.
    """
    return value <= limit if metric.from_send else (value <= limit) | (value != value)  # noqa: PLR0124 nan

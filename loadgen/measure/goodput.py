"""Which requests count for goodput: those within every limit."""

from loadgen.measure import metrics
from loadgen.record import Outcome, RequestRecord
from loadgen.slo import Slo


def meets(r: RequestRecord, slo: Slo) -> bool:
    """Tell whether a request was answered within every limit; one that failed was not.

    A limit on TPOT does not bind an answer that has none, as of one token; TTFT or E2E not observed is not kept.
    """
    if r.outcome is not Outcome.OK:
        return False
    tpot = metrics.tpot_ms(r)
    return (
        _within(metrics.ttft_ms(r), slo.ttft_ms)
        and _within(metrics.e2e_ms(r), slo.e2e_ms)
        and (tpot is None or _within(tpot, slo.tpot_ms))
    )


def _within(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)

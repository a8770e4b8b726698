"""What became of requests, and their tokens: the same counts for a whole run and for the requests of one name."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from loadgen.measure.statistics import distribution
from loadgen.record import CountedBy, Outcome, RequestRecord

Summary = dict[str, Any]


def requests(measured: Sequence[RequestRecord], *, all_known: bool) -> Summary:
    """Return how many requests ended how; ``all_known``: each that was started has a record."""
    outcomes = Counter(r.outcome for r in measured)
    apart = {Outcome.OK, Outcome.ABORTED, Outcome.DROPPED}
    return {
        # A run that broke off cannot say how many requests were in flight.
        "started": len(measured) if all_known else None,
        "completed": outcomes[Outcome.OK],
        "failed": sum(n for outcome, n in outcomes.items() if outcome not in apart),
        "aborted": outcomes[Outcome.ABORTED],
        "dropped": outcomes[Outcome.DROPPED],
        "by_error": {outcome.value: n for outcome, n in outcomes.items() if outcome is not Outcome.OK},
        "errors": _first_errors(measured),
    }


def _first_errors(measured: Sequence[RequestRecord]) -> dict[str, str]:
    """Return one message per outcome: the first."""
    messages: dict[str, str] = {}
    for r in measured:
        if r.outcome is not Outcome.OK and r.error:
            messages.setdefault(r.outcome.value, r.error)
    return messages


def tokens(ok: Sequence[RequestRecord]) -> Summary:
    """Return the tokens of complete answers, and who counted them."""
    output = [r.output_tokens for r in ok if r.output_tokens is not None]
    given = [r.input_tokens for r in ok if r.input_tokens is not None]
    cached = [r.cached_tokens for r in ok if r.cached_tokens is not None]
    by = Counter(r.counted_by for r in ok if r.counted_by is not None)
    return {
        "output": sum(output) if output else None,
        "input": sum(given) if given else None,
        "cached_input": sum(cached) if cached else None,
        "output_per_request": distribution([float(n) for n in output]),
        "counted_by": {who.value: n for who, n in by.items()},
        "counts": _counts(ok),
        "finish_reasons": dict(Counter(r.finish_reason or "none given" for r in ok)),
    }


def _counts(ok: Sequence[RequestRecord]) -> Summary:
    """Return the output tokens by each who counted all answers; None by whom some were not."""
    told: dict[str, Sequence[int | None]] = {
        "usage": [r.usage_tokens for r in ok],
        "tokenizer": [r.text_tokens for r in ok],
        "chunks": [r.chunks or None for r in ok],
    }
    found: Summary = {}
    for who, numbers in told.items():
        known = [n for n in numbers if n is not None]
        found[who] = sum(known) if known and len(known) == len(ok) else None
    by_usage = [r for r in ok if r.counted_by in {CountedBy.USAGE, CountedBy.USAGE_CORRECTED}]
    put_right = sum((r.output_tokens or 0) - r.usage_tokens for r in by_usage if r.usage_tokens is not None)
    return found | {"put_right": put_right or None}

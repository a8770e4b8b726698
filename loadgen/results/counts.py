"""What became of requests, and their tokens: the same counts for a whole run and for the requests of one name."""

from collections import Counter
from collections.abc import Sequence

from loadgen.measure.causes import causes
from loadgen.measure.statistics import distribution
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.results.summary_schema import Cause, Requests, TokenCounts, Tokens


def requests(measured: Sequence[RequestRecord], *, all_known: bool) -> Requests:
    """Return how many requests ended how; ``all_known``: each that was started has a record."""
    outcomes = Counter(r.outcome for r in measured)
    apart = {Outcome.OK, Outcome.ABORTED, Outcome.DROPPED}
    return Requests(
        # A run that broke off cannot say how many requests were in flight.
        started=len(measured) if all_known else None,
        completed=outcomes[Outcome.OK],
        failed=sum(n for outcome, n in outcomes.items() if outcome not in apart),
        aborted=outcomes[Outcome.ABORTED],
        dropped=outcomes[Outcome.DROPPED],
        by_error={outcome.value: n for outcome, n in outcomes.items() if outcome is not Outcome.OK},
        errors=_most_frequent(measured),
        causes=[
            Cause(outcome=cause.outcome.value, message=cause.message, count=cause.count)
            for cause in causes([r for r in measured if r.outcome is not Outcome.OK])
        ],
    )


def causes_of(counted: Requests) -> list[tuple[str, str]]:
    """Return what failed, how often, and what was said."""
    return [(f"{cause.count:,} {cause.outcome}", cause.message) for cause in counted.causes]


def _most_frequent(measured: Sequence[RequestRecord]) -> dict[str, str]:
    """Return one message per outcome: the most frequent."""
    messages: dict[str, Counter[str]] = {}
    for r in measured:
        if r.outcome is not Outcome.OK and r.error:
            messages.setdefault(r.outcome.value, Counter())[r.error] += 1
    return {outcome: said.most_common(1)[0][0] for outcome, said in messages.items()}


def tokens(ok: Sequence[RequestRecord]) -> Tokens:
    """Return the tokens of complete answers, and who counted them."""
    output = [r.output_tokens for r in ok if r.output_tokens is not None]
    given = [r.input_tokens for r in ok if r.input_tokens is not None]
    cached = [r.cached_tokens for r in ok if r.cached_tokens is not None]
    by = Counter(r.counted_by for r in ok if r.counted_by is not None)
    return Tokens(
        output=sum(output) if output else None,
        input=sum(given) if given else None,
        cached_input=sum(cached) if cached else None,
        output_per_request=distribution([float(n) for n in output]),
        counted_by={who.value: n for who, n in by.items()},
        counts=_counts(ok),
        finish_reasons=dict(Counter(r.finish_reason or "none given" for r in ok)),
    )


def _counts(ok: Sequence[RequestRecord]) -> TokenCounts:
    by_usage = [r for r in ok if r.counted_by in {CountedBy.USAGE, CountedBy.USAGE_CORRECTED}]
    put_right = sum((r.output_tokens or 0) - r.usage_tokens for r in by_usage if r.usage_tokens is not None)
    return TokenCounts(
        usage=_sum_of_all([r.usage_tokens for r in ok]),
        tokenizer=_sum_of_all([r.text_tokens for r in ok]),
        chunks=_sum_of_all([r.chunks or None for r in ok]),
        put_right=put_right or None,
    )


def _sum_of_all(numbers: Sequence[int | None]) -> int | None:
    """Return the sum; None where one number is not known, or there is none."""
    known = [n for n in numbers if n is not None]
    return sum(known) if known and len(known) == len(numbers) else None

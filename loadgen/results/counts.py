"""What became of requests, and their tokens: the same counts for a whole run and for the requests of one name."""

from collections import Counter

from loadgen.measure.causes import causes
from loadgen.measure.checks.tokens import finish_reasons
from loadgen.measure.records import Records
from loadgen.measure.statistics import distribution
from loadgen.metrics import OUTPUT_TOKENS
from loadgen.record import CountedBy, Outcome
from loadgen.results.summary_schema import Cause, Requests, TokenCounts, Tokens


def requests(measured: Records, *, all_known: bool) -> Requests:
    """Return how many requests ended how; ``all_known``: each that was started has a record."""
    outcomes = Counter(measured.tally("outcome"))
    not_ok = measured.where(~measured.equal("outcome", Outcome.OK))
    apart = {Outcome.OK, Outcome.ABORTED, Outcome.DROPPED}
    return Requests(
        # A run that broke off cannot say how many requests were in flight.
        started=len(measured) if all_known else None,
        completed=outcomes[Outcome.OK],
        failed=sum(n for outcome, n in outcomes.items() if outcome not in apart),
        aborted=outcomes[Outcome.ABORTED],
        dropped=outcomes[Outcome.DROPPED],
        by_error={outcome.value: n for outcome, n in outcomes.items() if outcome is not Outcome.OK},
        errors=_most_frequent(not_ok),
        causes=[
            Cause(outcome=cause.outcome.value, message=cause.message, count=cause.count) for cause in causes(not_ok)
        ],
    )


def causes_of(counted: Requests) -> list[tuple[str, str]]:
    """Return what failed, how often, and what was said."""
    return [(f"{cause.count:,} {cause.outcome}", cause.message) for cause in counted.causes]


def _most_frequent(not_ok: Records) -> dict[str, str]:
    """Return one message per outcome: the most frequent."""
    messages: dict[str, Counter[str]] = {}
    for (outcome, error), count in not_ok.tally("outcome", "error").items():
        if error:
            messages.setdefault(outcome.value, Counter())[error] = count
    return {outcome: said.most_common(1)[0][0] for outcome, said in messages.items()}


def tokens(ok: Records) -> Tokens:
    """Return the tokens of complete answers, and who counted them."""
    return Tokens(
        output=_sum_of_known(ok, "output_tokens"),
        input=_sum_of_known(ok, "input_tokens"),
        cached_input=_sum_of_known(ok, "cached_tokens"),
        output_per_request=distribution(ok.known_figures(OUTPUT_TOKENS)),
        counted_by={who.value: n for who, n in ok.tally("counted_by").items() if who is not None},
        counts=_counts(ok),
        finish_reasons=dict(finish_reasons(ok)),
    )


def _counts(ok: Records) -> TokenCounts:
    by_usage = ok.where(ok.equal("counted_by", CountedBy.USAGE, CountedBy.USAGE_CORRECTED)).where_known("usage_tokens")
    put_right = by_usage.total("output_tokens") - by_usage.total("usage_tokens")
    return TokenCounts(
        usage=_sum_of_all(ok, "usage_tokens"),
        tokenizer=_sum_of_all(ok, "text_tokens"),
        chunks=_sum_of_all(ok, "chunks") if (ok.ints("chunks") != 0).all() else None,
        put_right=put_right or None,
    )


def _sum_of_known(ok: Records, name: str) -> int | None:
    """Return the sum of a field; None where it is not known of any record."""
    return ok.total(name) if ok.known(name).any() else None


def _sum_of_all(ok: Records, name: str) -> int | None:
    """Return the sum of a field; None where it is not known of each record, or there is none."""
    return ok.total(name) if ok and ok.known(name).all() else None

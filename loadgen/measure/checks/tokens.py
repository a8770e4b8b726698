"""Whether the tokens are counted rightly, and were the engine's own work."""

from collections import Counter

import numpy as np

from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import NOT_KNOWN, main_figure, token_figure, up_to
from loadgen.measure.columns import ABSENT, Ints
from loadgen.measure.evidence import Evidence
from loadgen.measure.limits import (
    AT_OWN_LIMIT,
    CACHE_LIMIT,
    CHARACTERS_PER_TOKEN,
    TOKENS_INVALID,
    TOKENS_UNDERCOUNT,
    TOKENS_WARN,
)
from loadgen.measure.records import Records
from loadgen.metrics import E2E
from loadgen.printable import percent
from loadgen.record import CountedBy, Outcome

USUAL_REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "eos_token", "stop_sequence"})
"""Finish reasons of answers that ended as they should: OpenAI's, and those of TGI's native routes."""

_REASONS_SHOWN = 5

HTTP_OK = 200

GIVEN_UP = frozenset({Outcome.FIRST_BYTE_TIMEOUT, Outcome.IDLE_TIMEOUT, Outcome.TOTAL_TIMEOUT, Outcome.ABORTED})
"""Outcomes of requests that we ended, not the server."""


@check(id="token-counts", title="token counts", limit="plausible, and counted by the server or a tokenizer")
def token_counts(e: Evidence) -> Finding:
    """Check who counted the tokens, and whether the counts are plausible."""
    if not e.ok:
        return Finding(Status.NOT_CHECKED)
    counted = e.ok.where_known("output_tokens")
    if not counted:
        advice = "The server reported no token counts: name the model's --tokenizer, or stream."
        rejected = _rejected_usage(e.ok)
        value = f"none of {len(e.ok)} answers" + (f"; {rejected}" if rejected else "")
        return Finding(Status.INVALID, value, "all", advice, f"There is no {token_figure(e)} and no TPOT.")
    by = Counter(counted.tally("counted_by"))
    value = ", ".join(f"{n} by {who}" for who, n in by.most_common())
    problem, advice = _token_problem(e.ok, counted), "Compare with the engine's own counters."
    read = counted.where_known("output_characters")
    tokens, text = read.total("output_tokens"), read.total("text_tokens")
    if problem is None and tokens and text > (1 + TOKENS_UNDERCOUNT) * tokens:
        value += f"; {text:,} tokens in the text by the tokenizer, {tokens:,} counted"
        return Finding(Status.WARN, value, "plausible", advice, f"{up_to(token_figure(e), 1 - tokens / text, 'low')}.")
    problem = problem or _characters_problem(read)
    if problem:
        effect = f"{token_figure(e)} and TPOT may be wrong, {NOT_KNOWN}."
        return Finding(Status.WARN, f"{value}; {problem}", "plausible", advice, effect)
    if CountedBy.CHUNKS in by:
        effect = f"Chunks are a lower bound of the tokens: {token_figure(e)} may read low, {NOT_KNOWN}."
        return Finding(Status.WARN, value, "usage or tokenizer", "Name the model's --tokenizer.", effect)
    return Finding(Status.OK, value, "plausible")


def _rejected_usage(ok: Records) -> str | None:
    """Return how many answers had usage that cannot be, if any."""
    rejected = ok.where_known("rejected_usage")
    if not rejected:
        return None
    such_as = rejected[0].rejected_usage
    return f"{len(rejected)} answers with usage that cannot be, such as {such_as}: taken for missing"


def _token_problem(ok: Records, counted: Records) -> str | None:
    """Return what is implausible about the counts, if anything."""
    if (rejected := _rejected_usage(ok)) is not None:
        return rejected
    if len(counted) < len(ok):
        return f"{len(ok) - len(counted)} answers without a count"
    tokens = counted.ints("output_tokens")
    fewer = int((counted.ints("chunks") > tokens).sum())
    if fewer:
        return f"{fewer} answers with more chunks than tokens"
    negative = int((ok.figure(E2E) < 0).sum())
    if negative:
        return f"{negative} answers that ended before they were asked for"
    silent = int(((tokens != 0) & (counted.ints("output_characters") == 0)).sum())
    if silent:
        return f"{silent} answers with tokens and no text"
    return None


def _characters_problem(read: Records) -> str | None:
    """Return how long the tokens were that were counted, if no tokenizer's are so long or so short."""
    tokens = read.total("output_tokens")
    if not tokens:
        return None
    per_token = read.total("output_characters") / tokens
    low, high = CHARACTERS_PER_TOKEN
    return None if low <= per_token <= high else f"{per_token:.1f} characters per token"


@check(id="output-length", title="output lengths", limit="at most max_tokens, ended as asked")
def output_lengths(e: Evidence) -> Finding:
    """Check whether answers ended as asked."""
    if not e.ok:
        return Finding(Status.NOT_CHECKED)
    reasons = finish_reasons(e.ok)
    value = ", ".join(f"{reason:.40} {percent(n / len(e.ok))}" for reason, n in reasons.most_common(_REASONS_SHOWN))
    # A local tokenizer may cut a text into more tokens than it was made of.
    allowed, tokens = _limits(e.ok, e), e.ok.ints("output_tokens")
    too_long = int(((np.maximum(tokens, 0) > allowed) & ~e.ok.equal("counted_by", CountedBy.TOKENIZER)).sum())
    limits = np.unique(allowed).tolist()
    limit = f"at most {limits[0]} tokens" if len(limits) == 1 else f"at most {limits[0]} to {limits[-1]} tokens"
    by_length = e.ok.equal("finish_reason", "length")
    ended = int((~by_length).sum())
    if e.ignore_eos and ended:
        advice = "The server did not do what --ignore-eos asks for: leave it out, or name the --engine."
        effect = f"Answers have different lengths: {main_figure(e)} is not that of answers of a given length."
        value += f"; {ended} answers ended by themselves"
        return Finding(Status.INVALID, value, "length 100 %", advice, effect)
    if too_long:
        advice = "The server does not apply max_tokens as asked: see its documentation for the limit that it has."
        effect = f"{main_figure(e)} is not that of answers of at most {limits[-1]} tokens; the difference is not known."
        return Finding(Status.WARN, f"{value}; {too_long} answers longer", limit, advice, effect)
    unusual = int((~e.ok.equal("finish_reason", None, *USUAL_REASONS)).sum())
    if unusual:
        advice = "Only stop, length and calls are usual reasons: see the server's log."
        effect = f"These answers may be shorter than the model made them. {_OF_SHORT_ANSWERS[e.is_one_user]}"
        return Finding(Status.WARN, f"{value}; {unusual} answers ended unusually", limit, advice, effect)
    short = int((by_length & (tokens != ABSENT) & (tokens < AT_OWN_LIMIT * allowed)).sum())
    if short:
        advice = "Raise the server's own limit, or lower --max-tokens."
        effect = f"The server has a lower limit. {_OF_SHORT_ANSWERS[e.is_one_user]}"
        return Finding(Status.WARN, f"{value}; {short} cut below max_tokens", limit, advice, effect)
    return Finding(Status.OK, value, limit)


_OF_SHORT_ANSWERS = {
    False: f"Shorter answers take less time: requests/min may read high, {NOT_KNOWN}.",
    True: f"In shorter answers the first token takes more of the time: tokens/s may read low, {NOT_KNOWN}.",
}
"""What answers that were cut do; by whether one user asked for them."""


def finish_reasons(ok: Records) -> Counter[str]:
    """Return how often answers gave each reason for their end."""
    found = Counter[str]()
    for reason, count in ok.tally("finish_reason").items():
        found[reason or "none given"] += count
    return found


def _limits(records: Records, e: Evidence) -> Ints:
    """Return the longest answer that each request asked for, tokens; older records do not have it."""
    asked = records.ints("max_tokens")
    return np.where(asked == ABSENT, e.max_tokens, asked)


@check(id="engine-token-count", title="the engine's own count of tokens", limit=f"{percent(TOKENS_WARN)} apart")
def engines_count(e: Evidence) -> Finding:
    """Check whether the engine counts as many output tokens as we do."""
    if e.counters is None:
        return Finding(Status.NOT_CHECKED, advice="The engine exposes no counter for this.")
    before, after = (c.output_tokens for c in e.counters)
    if before is None or after is None:
        return Finding(Status.NOT_CHECKED, advice="The engine's /metrics do not count output tokens.")
    answered = e.records.equal("outcome", Outcome.OK)
    done = e.records.where(answered)
    if not done.known("output_tokens").all():
        return Finding(Status.NOT_CHECKED, advice="Not all answers were counted here: name the model's --tokenizer.")
    theirs = after - before
    ours = done.total("output_tokens")
    broken = int((~answered & e.records.known("sent_ns")).sum())
    value = f"{_by_source(done)}, {theirs:,.0f} by the engine" + (f", {broken} requests not complete" if broken else "")
    limit = percent(TOKENS_WARN)
    beyond = max(ours - theirs, theirs - ours - _tokens_of_failed(e, done), 0)
    apart = beyond / ours if ours else float(beyond > 0)
    if apart <= TOKENS_WARN:
        return Finding(Status.OK, value, limit)
    status = Status.INVALID if apart > TOKENS_INVALID else Status.WARN
    advice = "Compare single answers; 'no other load on the engine' shows whether it had other requests."
    return Finding(status, value, limit, advice, _effect_of_difference(e, ours, theirs, beyond))


def _effect_of_difference(e: Evidence, ours: int, theirs: float, beyond: float) -> str:
    """Return what it does if the engine's count is the right one."""
    if ours < theirs:
        bound = up_to(token_figure(e), beyond / (ours + beyond), "low")
    elif theirs > 0:
        bound = up_to(token_figure(e), beyond / theirs, "high")
    else:
        bound = f"{token_figure(e)} may read high, {NOT_KNOWN}"
    return f"If it is our count that is wrong, {bound}."


def _tokens_of_failed(e: Evidence, done: Records) -> float:
    """Return how many tokens the engine may have counted for requests that did not end well.

    - HTTP error status: none.
    - The stream broke: the tokens that had arrived.
    - We gave up (time-out, end of the run): also an average answer, as the engine continues until it notices.
    - Not streamed, so nothing shows how far it was: the longest answer.
    """
    lengths = np.maximum(done.ints("output_tokens"), 0) if done else np.array([e.max_tokens])
    streamed = bool(done.known("first_token_ns").any())
    more = float(lengths.mean() if streamed else lengths.max())
    chunks = done.total("chunks")
    tokens_a_chunk = max(1.0, int(lengths.sum()) / chunks) if chunks else 1.0
    failed = e.records.where(~e.records.equal("outcome", Outcome.OK)).where_known("sent_ns")
    failed = failed.where((failed.ints("http_status") == HTTP_OK) | ~failed.known("http_status"))
    counted = np.maximum(failed.ints("output_tokens"), 0)
    came = np.where(counted > 0, counted, tokens_a_chunk * np.maximum(failed.ints("chunks"), 0))
    went_on = failed.equal("outcome", *GIVEN_UP) | (not streamed)
    return float(np.minimum(came + more * went_on, _limits(failed, e)).sum())


def _by_source(done: Records) -> str:
    """Return our count of tokens by who counted them, and that of chunks where all were counted."""
    sources = done.tally("counted_by")
    totals = Counter({who: done.where(done.equal("counted_by", who)).total("output_tokens") for who in sources})
    found = [f"{tokens:,} by {who}" for who, tokens in totals.most_common()] or ["0 here"]
    if done and (done.ints("chunks") > 0).all() and CountedBy.CHUNKS not in totals:
        found.append(f"{done.total('chunks'):,} chunks")
    return ", ".join(found)


@check(id="prefix-cache", title="prompts not from a cache", limit=f"{percent(CACHE_LIMIT)} of prompt tokens")
def prefix_cache(e: Evidence) -> Finding:
    """Check whether prompts came from the engine's cache, where they cost next to nothing."""
    sent = e.records.where_known("sent_ns")
    rows, counts = np.unique(sent.where_known("prompt_row").ints("prompt_row"), return_counts=True)
    asked = int(counts.sum())
    repeated = asked - len({e.same_text.get(row, row) for row in rows.tolist()})
    hits = _cache_hits(e)
    limit = f"{percent(CACHE_LIMIT)} of prompt tokens"
    advice = "Start the engine without prefix caching (vLLM: --no-enable-prefix-caching), or raise --sample."
    if hits is None:
        value = f"{repeated} of {len(sent)} requests repeated a prompt" if repeated else "no prompt repeated"
        told = "The engine reports nothing about its cache: " + (
            "it may have kept the prompts that were repeated. " + advice
            if repeated
            else "it may have kept these prompts from an earlier run; another --seed takes others."
        )
        return Finding(Status.NOT_CHECKED, value, limit, told)
    own = len(sent) - asked
    if own:
        value = f"{percent(hits, 1)} of prompt tokens, {own} of {len(sent)} requests with prompts of the locustfile"
        told = "Prompts of the locustfile may have parts in common, as the turns of a conversation do."
        return Finding(Status.NOT_CHECKED, value, limit, told)
    value = f"{percent(hits, 1)} of prompt tokens, {repeated} requests repeated a prompt"
    if hits > CACHE_LIMIT or (repeated > 0 and hits > 0):
        effect = (
            f"The engine did not compute {percent(hits, 1)} of the prompt tokens: TTFT reads low and {main_figure(e)} "
            f"high, {NOT_KNOWN}."
        )
        return Finding(Status.WARN, value, limit, advice, effect)
    return Finding(Status.OK, value, limit)


def _cache_hits(e: Evidence) -> float | None:
    """Return the share of prompt tokens that the engine found in its cache; None where nothing reports it.

    By the engine's counters, or by the usage in its answers, whichever is more: one of the two may count less.
    """
    told = [share for share in (_counted_hits(e), _hits_in_usage(e)) if share is not None]
    return max(told, default=None)


def _counted_hits(e: Evidence) -> float | None:
    if e.counters is None:
        return None
    before, after = e.counters
    if after.prefix_hits is None or after.prefix_queries is None:
        return None
    asked = after.prefix_queries - (before.prefix_queries or 0)
    return (after.prefix_hits - (before.prefix_hits or 0)) / asked if asked > 0 else 0.0


def _hits_in_usage(e: Evidence) -> float | None:
    known = e.ok.where_known("cached_tokens")
    known = known.where(known.ints("input_tokens") > 0)
    return known.total("cached_tokens") / known.total("input_tokens") if known else None

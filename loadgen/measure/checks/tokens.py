"""Whether the tokens are counted rightly, and were the engine's own work."""

from collections import Counter
from collections.abc import Sequence

from loadgen import metrics
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.evidence import Evidence
from loadgen.measure.limits import (
    AT_OWN_LIMIT,
    CACHE_LIMIT,
    CHARACTERS_PER_TOKEN,
    TOKENS_INVALID,
    TOKENS_UNDERCOUNT,
    TOKENS_WARN,
)
from loadgen.record import CountedBy, Outcome, RequestRecord

USUAL_REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "eos_token", "stop_sequence"})
"""Finish reasons of answers that ended as they should: OpenAI's, and those of TGI's native routes."""

_REASONS_SHOWN = 5

HTTP_OK = 200

GIVEN_UP = frozenset({Outcome.FIRST_BYTE_TIMEOUT, Outcome.IDLE_TIMEOUT, Outcome.TOTAL_TIMEOUT, Outcome.ABORTED})
"""Outcomes of requests that we ended, not the server."""


@check(id="token-counts", title="token counts", limit="plausible, and counted by the server or a tokenizer")
def token_counts(e: Evidence) -> Finding:
    """Tell who counted the tokens, and whether the counts are plausible."""
    if not e.ok:
        return Finding(Status.NOT_CHECKED)
    counted = [r for r in e.ok if r.output_tokens is not None]
    if not counted:
        advice = "The server reported no token counts: name the model's --tokenizer, or stream."
        problem = _token_problem(e.ok, counted) if any(r.rejected_usage for r in e.ok) else None
        value = f"none of {len(e.ok)} answers" + (f"; {problem}" if problem else "")
        return Finding(Status.INVALID, value, "all", advice)
    by = Counter(r.counted_by for r in counted)
    value = ", ".join(f"{n} by {who}" for who, n in by.most_common())
    problem = _token_problem(e.ok, counted)
    if problem:
        return Finding(Status.WARN, f"{value}; {problem}", "plausible", "Compare with the engine's own counters.")
    if CountedBy.CHUNKS in by:
        advice = "Chunks are a lower bound of the tokens: name the model's --tokenizer."
        return Finding(Status.WARN, value, "usage or tokenizer", advice)
    return Finding(Status.OK, value, "plausible")


def _token_problem(ok: Sequence[RequestRecord], counted: Sequence[RequestRecord]) -> str | None:
    """Return what is implausible about the counts, if anything."""
    rejected = [r.rejected_usage for r in ok if r.rejected_usage is not None]
    if rejected:
        return f"{len(rejected)} answers with usage that cannot be, such as {rejected[0]}: taken for missing"
    if len(counted) < len(ok):
        return f"{len(ok) - len(counted)} answers without a count"
    fewer = sum((r.chunks or 0) > (r.output_tokens or 0) for r in counted)
    if fewer:
        return f"{fewer} answers with more chunks than tokens"
    negative = sum((metrics.e2e_ms(r) or 0) < 0 for r in ok)
    if negative:
        return f"{negative} answers that ended before they were asked for"
    silent = sum(bool(r.output_tokens) and r.output_characters == 0 for r in counted)
    if silent:
        return f"{silent} answers with tokens and no text"
    return _text_problem([r for r in counted if r.output_characters is not None])


def _text_problem(read: Sequence[RequestRecord]) -> str | None:
    """Return what does not fit together of counts and of texts, if anything."""
    tokens = sum(r.output_tokens or 0 for r in read)
    if not tokens:
        return None
    text = sum(r.text_tokens or 0 for r in read)
    if text > (1 + TOKENS_UNDERCOUNT) * tokens:
        return f"{text:,} tokens in the text by the tokenizer, {tokens:,} counted"
    per_token = sum(r.output_characters or 0 for r in read) / tokens
    low, high = CHARACTERS_PER_TOKEN
    return None if low <= per_token <= high else f"{per_token:.1f} characters per token"


@check(id="output-length", title="output lengths", limit="at most max_tokens, ended as asked")
def output_lengths(e: Evidence) -> Finding:
    """Tell whether answers ended as asked."""
    if not e.ok:
        return Finding(Status.NOT_CHECKED)
    reasons = Counter(r.finish_reason or "none given" for r in e.ok)
    value = ", ".join(f"{reason:.40} {n / len(e.ok):.0%}" for reason, n in reasons.most_common(_REASONS_SHOWN))
    # A local tokenizer may cut a text into more tokens than it was made of.
    too_long = sum((r.output_tokens or 0) > _limit(r, e) and r.counted_by is not CountedBy.TOKENIZER for r in e.ok)
    limits = sorted({_limit(r, e) for r in e.ok})
    limit = f"at most {limits[0]} tokens" if len(limits) == 1 else f"at most {limits[0]} to {limits[-1]} tokens"
    ended = sum(r.finish_reason != "length" for r in e.ok)
    if e.ignore_eos and ended:
        advice = "The server did not do what --ignore-eos asks for: leave it out, or name the --engine."
        return Finding(Status.INVALID, f"{value}; {ended} answers ended by themselves", "length 100%", advice)
    if too_long:
        advice = "Answers were longer than max_tokens allows: runs with another limit cannot be compared."
        return Finding(Status.WARN, f"{value}; {too_long} answers longer", limit, advice)
    unusual = sum(r.finish_reason is not None and r.finish_reason not in USUAL_REASONS for r in e.ok)
    if unusual:
        advice = "Answers that ended otherwise than by stop, length or a call may be cut short: see the server's log."
        return Finding(Status.WARN, f"{value}; {unusual} answers ended unusually", limit, advice)
    short = sum(
        r.finish_reason == "length" and r.output_tokens is not None and r.output_tokens < AT_OWN_LIMIT * _limit(r, e)
        for r in e.ok
    )
    if short:
        advice = "The server ended answers at a lower limit than max_tokens: raise its limit, or lower --max-tokens."
        return Finding(Status.WARN, f"{value}; {short} cut below max_tokens", limit, advice)
    return Finding(Status.OK, value, limit)


def _limit(r: RequestRecord, e: Evidence) -> int:
    """Return the longest answer that a request asked for, tokens; older records do not have it."""
    return e.max_tokens if r.max_tokens is None else r.max_tokens


@check(id="engine-token-count", title="the engine's own count of tokens", limit=f"{TOKENS_WARN:.0%} apart")
def engines_count(e: Evidence) -> Finding:
    """Tell whether the engine counts as many output tokens as we do."""
    if e.counters is None:
        return Finding(Status.NOT_CHECKED, advice="The engine has no /metrics that tell.")
    before, after = (c.output_tokens for c in e.counters)
    if before is None or after is None:
        return Finding(Status.NOT_CHECKED, advice="The engine's /metrics do not count output tokens.")
    done = [r for r in e.records if r.outcome is Outcome.OK]
    if any(r.output_tokens is None for r in done):
        return Finding(Status.NOT_CHECKED, advice="Not all answers were counted here: name the model's --tokenizer.")
    theirs = after - before
    ours = sum(r.output_tokens or 0 for r in done)
    broken = sum(r.outcome is not Outcome.OK and r.sent_ns is not None for r in e.records)
    value = f"{_by_source(done)}, {theirs:,.0f} by the engine" + (f", {broken} requests not complete" if broken else "")
    limit = f"{TOKENS_WARN:.0%}"
    beyond = max(ours - theirs, theirs - ours - _tokens_of_failed(e, done), 0)
    apart = beyond / ours if ours else float(beyond > 0)
    if apart <= TOKENS_WARN:
        return Finding(Status.OK, value, limit)
    status = Status.INVALID if apart > TOKENS_INVALID else Status.WARN
    advice = "Either the engine had other requests too, or one of the counts is wrong: compare single answers."
    return Finding(status, value, limit, advice)


def _tokens_of_failed(e: Evidence, done: Sequence[RequestRecord]) -> float:
    """Return how many tokens the engine may have counted for requests that did not end well.

    - HTTP error status: none.
    - The stream broke: the tokens that had arrived.
    - We gave up (time-out, end of the run): also an average answer, as the engine continues until it notices.
    - Not streamed, so nothing shows how far it was: the longest answer.
    """
    lengths = [r.output_tokens or 0 for r in done] or [e.max_tokens]
    streamed = any(r.first_token_ns is not None for r in done)
    more = sum(lengths) / len(lengths) if streamed else max(lengths)
    chunks = sum(r.chunks or 0 for r in done)
    tokens_a_chunk = max(1.0, sum(lengths) / chunks) if chunks else 1.0
    total = 0.0
    for r in e.records:
        if r.outcome is Outcome.OK or r.sent_ns is None or r.http_status not in {None, HTTP_OK}:
            continue
        came = r.output_tokens or tokens_a_chunk * (r.chunks or 0)
        went_on = r.outcome in GIVEN_UP or not streamed
        total += min(came + more * went_on, _limit(r, e))
    return total


def _by_source(done: Sequence[RequestRecord]) -> str:
    """Return our count of tokens by who counted them, and that of chunks where all were counted."""
    totals = Counter[CountedBy | None]()
    for r in done:
        totals[r.counted_by] += r.output_tokens or 0
    found = [f"{tokens:,} by {who}" for who, tokens in totals.most_common()] or ["0 here"]
    if done and all(r.chunks for r in done) and CountedBy.CHUNKS not in totals:
        found.append(f"{sum(r.chunks or 0 for r in done):,} chunks")
    return ", ".join(found)


@check(id="prefix-cache", title="prompts not from a cache", limit=f"{CACHE_LIMIT:.0%} of prompt tokens")
def prefix_cache(e: Evidence) -> Finding:
    """Tell whether prompts came from the engine's cache, where they cost next to nothing."""
    sent = [r for r in e.records if r.sent_ns is not None]
    rows = [e.same_text.get(r.prompt_row, r.prompt_row) for r in sent if r.prompt_row is not None]
    repeated = len(rows) - len(set(rows))
    hits = _cache_hits(e)
    limit = f"{CACHE_LIMIT:.0%} of prompt tokens"
    advice = "Start the engine without prefix caching (vLLM: --no-enable-prefix-caching), or raise --sample."
    if hits is None:
        value = f"{repeated} of {len(sent)} requests repeated a prompt" if repeated else "no prompt repeated"
        told = "The engine reports nothing about its cache: " + (
            "it may have kept the prompts that were repeated. " + advice
            if repeated
            else "it may have kept these prompts from an earlier run; another --seed takes others."
        )
        return Finding(Status.NOT_CHECKED, value, limit, told)
    own = len(sent) - len(rows)
    if own:
        value = f"{hits:.1%} of prompt tokens, {own} of {len(sent)} requests with prompts of the locustfile"
        told = "Prompts of the locustfile may have parts in common, as the turns of a conversation do."
        return Finding(Status.NOT_CHECKED, value, limit, told)
    value = f"{hits:.1%} of prompt tokens, {repeated} requests repeated a prompt"
    if hits > CACHE_LIMIT or (repeated > 0 and hits > 0):
        return Finding(Status.WARN, value, limit, advice)
    return Finding(Status.OK, value, limit)


def _cache_hits(e: Evidence) -> float | None:
    """Return the share of prompt tokens that the engine found in its cache; None where nobody tells.

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
    known = [r for r in e.ok if r.cached_tokens is not None and r.input_tokens]
    if not known:
        return None
    return sum(r.cached_tokens or 0 for r in known) / sum(r.input_tokens or 0 for r in known)

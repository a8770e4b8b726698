"""Whether answers came as a stream of tokens, as they were asked for, and showed all that was counted."""

from collections.abc import Sequence
from statistics import fmean, median

from loadgen import metrics
from loadgen.clock import MS
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.evidence import Evidence
from loadgen.measure.limits import (
    BURST_CHUNKS,
    CHARACTERS_SHOWN,
    LOOP_LAG_LIMIT_MS,
    ONE_PIECE_SHARE,
    TOKENS_A_CHUNK,
)
from loadgen.record import RequestRecord


@check(id="streamed", title="answers streamed as asked", limit=f"at most {ONE_PIECE_SHARE:.0%} in one piece")
def streamed(e: Evidence) -> Finding:
    """Tell whether the answers that were asked for as streams came as such."""
    if not e.stream or not e.ok:
        return Finding(Status.NOT_CHECKED)
    limit = f"at most {ONE_PIECE_SHARE:.0%} in one piece"
    whole = sum(r.streamed is False for r in e.ok)
    one = sum(_came_in_one_event(r) for r in e.ok)
    unseen = sum(r.first_token_ns is None and r.streamed is not False for r in e.ok)
    findings = [
        (whole, "as one JSON document, not streamed"),
        (one, "with all tokens in one event"),
        (unseen, "without a visible token"),
    ]
    value = ", ".join(f"{n} of {len(e.ok)} {how}" for n, how in findings if n)
    if whole + one > ONE_PIECE_SHARE * len(e.ok):
        advice = "The server, or a proxy before it, sends whole answers: there is no time to first token, only E2E."
        return Finding(Status.WARN, value, limit, advice)
    if unseen > ONE_PIECE_SHARE * len(e.ok):
        advice = "All that was generated stayed hidden, as reasoning may: a larger --max-tokens leaves room for text."
        return Finding(Status.WARN, value, limit, advice)
    if (burst := _burst(e.ok)) is not None:
        advice = "They were not late here: the engine, or a proxy before it, collects tokens before it sends them."
        return Finding(Status.WARN, f"{burst:.0f} tokens came at a time", f"fewer than {BURST_CHUNKS}", advice)
    return Finding(Status.OK, value or f"{len(e.ok)} answers", limit)


@check(
    id="tokens-shown",
    title="all counted tokens shown",
    limit=f"{TOKENS_A_CHUNK:g} tokens a chunk, or {CHARACTERS_SHOWN:g} characters a token",
)
def shown(e: Evidence) -> Finding:
    """Compare TPOT with the time from chunk to chunk: tokens that are counted and not shown make TPOT too short."""
    read = [r for r in e.ok if r.output_characters is not None and metrics.tpot_ms(r) is not None and metrics.icl_ms(r)]
    if not read:
        return Finding(Status.NOT_CHECKED)
    tokens = sum((r.output_tokens or 0) - (r.hidden_tokens or 0) for r in read)
    chunks = sum(r.chunks or 0 for r in read)
    characters = sum(r.output_characters or 0 for r in read) / tokens if tokens > 0 else 0.0
    hidden = sum(r.hidden_tokens or 0 for r in read)
    tpot = median(metrics.tpot_ms(r) or 0.0 for r in read)
    icl = median(fmean(metrics.icl_ms(r)) for r in read)
    value = f"TPOT {tpot:.3g} ms, ICL {icl:.3g} ms: {tokens / chunks:.1f} tokens a chunk"
    if hidden:
        value += f"; {hidden:,} hidden tokens are left out of TPOT"
    limit = f"{TOKENS_A_CHUNK:g} tokens a chunk, or {CHARACTERS_SHOWN:g} characters a token"
    if tokens <= TOKENS_A_CHUNK * chunks or characters >= CHARACTERS_SHOWN:
        return Finding(Status.OK, value, limit)
    advice = "Part of what the server counts was not in the stream: TPOT is too short, ICL is what users see."
    return Finding(Status.WARN, f"{value}, {characters:.2g} characters a token", limit, advice)


def _came_in_one_event(r: RequestRecord) -> bool:
    seen = (r.output_tokens or 0) - (r.hidden_tokens or 0)
    return r.streamed is not False and r.chunks == 1 and seen > BURST_CHUNKS


def _burst(ok: Sequence[RequestRecord]) -> float | None:
    """Return how many tokens came at a time, where they came in bursts and were read without delay; else None."""
    read = [r for r in ok if r.coalesced_chunks is not None and (r.chunks or 0) > 1]
    delays = [r.read_delay_ns for r in read if r.read_delay_ns is not None]
    if not delays or median(delays) > LOOP_LAG_LIMIT_MS * MS:
        return None
    chunks = sum(r.chunks or 0 for r in read)
    at_a_time = chunks / max(1, chunks - sum(r.coalesced_chunks or 0 for r in read))
    return at_a_time if at_a_time >= BURST_CHUNKS else None

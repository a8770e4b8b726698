"""Whether answers came as a stream of tokens, as they were asked for, and showed all that was counted."""

import numpy as np

from loadgen.clock import MS
from loadgen.measure.check import Finding, Status, check
from loadgen.measure.checks.effect import up_to
from loadgen.measure.columns import Ints
from loadgen.measure.evidence import Evidence
from loadgen.measure.limits import (
    BURST_CHUNKS,
    CHARACTERS_SHOWN,
    LOOP_LAG_LIMIT_MS,
    ONE_PIECE_SHARE,
    TOKENS_A_CHUNK,
)
from loadgen.measure.records import Records
from loadgen.metrics import TPOT
from loadgen.printable import percent


@check(id="streamed", title="answers streamed as asked", limit=f"at most {percent(ONE_PIECE_SHARE)} in one piece")
def streamed(e: Evidence) -> Finding:
    """Check whether the answers that were asked for as streams came as such."""
    if not e.stream or not e.ok:
        return Finding(Status.NOT_CHECKED)
    limit = f"at most {percent(ONE_PIECE_SHARE)} in one piece"
    in_one_document = e.ok.no("streamed")
    whole = int(in_one_document.sum())
    one = int((~in_one_document & (e.ok.ints("chunks") == 1) & (_shown_tokens(e.ok) > BURST_CHUNKS)).sum())
    unseen = int((~in_one_document & ~e.ok.known("first_token_ns")).sum())
    findings = [
        (whole, "as one JSON document, not streamed"),
        (one, "with all tokens in one event"),
        (unseen, "without a visible token"),
    ]
    value = ", ".join(f"{n} of {len(e.ok)} {how}" for n, how in findings if n)
    if whole + one > ONE_PIECE_SHARE * len(e.ok):
        advice = "The server, or a proxy before it, sends whole answers: use E2E, or let it stream."
        return Finding(Status.WARN, value, limit, advice, _effect_of_pieces(whole, one))
    if unseen > ONE_PIECE_SHARE * len(e.ok):
        advice = "All that was generated stayed hidden, as reasoning may: a larger --max-tokens leaves room for text."
        effect = f"{unseen} answers have no TTFT and no TPOT; E2E is not affected."
        return Finding(Status.WARN, value, limit, advice, effect)
    if (burst := _burst(e.ok)) is not None:
        advice = "They were not late here: the engine, or a proxy before it, collects tokens before it sends them."
        value, limit = f"{burst:.0f} tokens came at a time", f"fewer than {BURST_CHUNKS}"
        return Finding(Status.WARN, value, limit, advice, _effect_of_bursts(e.ok, burst))
    return Finding(Status.OK, value or f"{len(e.ok)} answers", limit)


def _effect_of_pieces(whole: int, one: int) -> str:
    found = []
    if whole:
        found.append(f"{whole} answers have no TTFT and no TPOT.")
    if one:
        found.append(f"In {one} answers TTFT is the time to all tokens, and there is no TPOT.")
    return " ".join([*found, "E2E is not affected."])


def _effect_of_bursts(ok: Records, burst: float) -> str:
    """Return how long a first token may have waited for the others of its burst, at the median time of a token."""
    tpot, more = ok.known_figures(TPOT), burst - 1
    by = f" by about {more * float(np.median(tpot)):.0f} ms, the time of {more:.0f} tokens" if len(tpot) else ""
    return f"TTFT may read high{by}, and TPOT low. E2E is not affected."


@check(
    id="tokens-shown",
    title="all counted tokens shown",
    limit=f"{TOKENS_A_CHUNK:g} tokens a chunk, or {CHARACTERS_SHOWN:g} characters a token",
)
def shown(e: Evidence) -> Finding:
    """Compare TPOT with the time from chunk to chunk: tokens that are counted and not shown make TPOT too short."""
    read = e.ok.where_known("output_characters", "chunk_ns")
    read = read.where(~np.isnan(read.figure(TPOT)))
    gaps = read.mean_gaps_ms()
    read, gaps = read.where(~np.isnan(gaps)), gaps[~np.isnan(gaps)]
    if not read:
        return Finding(Status.NOT_CHECKED)
    tokens, chunks, hidden = int(_shown_tokens(read).sum()), read.total("chunks"), read.total("hidden_tokens")
    characters = read.total("output_characters") / tokens if tokens > 0 else 0.0
    tpot, icl = float(np.median(read.figure(TPOT))), float(np.median(gaps))
    value = f"TPOT {tpot:.3g} ms, ICL {icl:.3g} ms: {tokens / chunks:.1f} tokens a chunk"
    if hidden:
        value += f"; {hidden:,} hidden tokens are left out of TPOT"
    limit = f"{TOKENS_A_CHUNK:g} tokens a chunk, or {CHARACTERS_SHOWN:g} characters a token"
    if tokens <= TOKENS_A_CHUNK * chunks or characters >= CHARACTERS_SHOWN:
        return Finding(Status.OK, value, limit)
    effect = f"Part of what the server counts was not in the stream: {up_to(TPOT.label, 1 - tpot / icl, 'low')}."
    value += f", {characters:.2g} characters a token"
    return Finding(Status.WARN, value, limit, "Use ICL, which is what users see.", effect)


def _shown_tokens(ok: Records) -> Ints:
    """Return how many tokens each stream showed, as far as they were counted."""
    return np.maximum(ok.ints("output_tokens"), 0) - np.maximum(ok.ints("hidden_tokens"), 0)


def _burst(ok: Records) -> float | None:
    """Return how many tokens came at a time, where they came in bursts and were read without delay; else None."""
    read = ok.where_known("coalesced_chunks")
    read = read.where(read.ints("chunks") > 1)
    delays = read.where_known("read_delay_ns").ints("read_delay_ns")
    if not len(delays) or np.median(delays) > LOOP_LAG_LIMIT_MS * MS:
        return None
    chunks = read.total("chunks")
    at_a_time = chunks / max(1, chunks - read.total("coalesced_chunks"))
    return at_a_time if at_a_time >= BURST_CHUNKS else None

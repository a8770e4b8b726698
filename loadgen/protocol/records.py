"""From a completion to its record: who counts the tokens, and which times the record has."""

from collections.abc import Callable
from typing import Any, Literal

from msgspec.structs import asdict

from loadgen.protocol.completion import Completion
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.request import Request
from loadgen.wire.trace import trace_id
from loadgen.wire.transcript import Arrivals, Transcript

TokenCounter = Callable[[str], int]
"""Counts the tokens of a text."""


def record_of(
    request: Request,
    transcript: Transcript,
    arrivals: Arrivals,
    completion: Completion,
    count_tokens: TokenCounter | None,
    client: Literal["own", "openai"] = "own",
) -> RequestRecord:
    """Return the record of one request."""
    has_text = completion.produces == "tokens" and completion.outcome is Outcome.OK
    text_tokens = count_tokens(completion.text) if has_text and count_tokens is not None else None
    output_tokens, counted_by = _counted(completion, text_tokens)
    chunks: list[int] = list(completion.chunk_times)
    return _record(
        request,
        trace_id=trace_id(request.id),
        client=client,
        connection=transcript.connection,
        connect_ns=transcript.connect,
        connected_ns=transcript.connected,
        sent_ns=transcript.sent,
        first_byte_ns=arrivals.at[0] if arrivals.at else None,
        first_token_ns=chunks[0] if chunks else None,
        last_token_ns=chunks[-1] if chunks else None,
        end_ns=transcript.end,
        stamp="kernel" if arrivals.stamped else "user",
        first_token_interval_ns=completion.first_width,
        last_token_interval_ns=completion.last_width,
        end_interval_ns=transcript.end_width,
        read_delay_ns=arrivals.longest_delay(),
        input_tokens=completion.usage.input_tokens if completion.usage else None,
        cached_tokens=completion.usage.cached_tokens if completion.usage else None,
        output_tokens=output_tokens,
        reasoning_tokens=completion.usage.reasoning_tokens if completion.usage else None,
        hidden_tokens=completion.hidden_tokens,
        choices=completion.choices if completion.choices > 1 else None,
        counted_by=counted_by,
        usage_tokens=_reported_tokens(completion),
        rejected_usage=completion.rejected_usage,
        text_tokens=text_tokens,
        first_chunk_tokens=_first_chunk_tokens(completion, output_tokens, counted_by),
        lazy=transcript.lazy,
        streamed=completion.streamed if completion.has_text or completion.items else None,
        chunks=completion.chunks if completion.produces == "tokens" else None,
        coalesced_chunks=None if transcript.lazy or client != "own" else completion.coalesced,
        output_characters=len(completion.text) if has_text and not completion.skipped else None,
        chunk_ns=chunks if chunks and not transcript.lazy else None,
        outcome=completion.outcome,
        error=completion.error,
        http_status=transcript.response.status or None,
        retry_after_s=completion.retry_after_s,
        finish_reason=completion.finish_reason,
        server_prefill_ms=completion.timings.prefill_ms if completion.timings else None,
        server_tpot_ms=completion.timings.tpot_ms if completion.timings else None,
    )


def dropped(request: Request, why: str) -> RequestRecord:
    """Return the record of a request that was due and was not sent."""
    return _record(request, outcome=Outcome.DROPPED, error=why)


def _record(request: Request, **observed: Any) -> RequestRecord:  # noqa: ANN401 the fields of a record
    """Return a record with the identity and the place of its request."""
    return RequestRecord(
        request_id=request.id,
        max_tokens=request.max_tokens,
        scheduled_ns=request.due,
        think_ns=request.think_ns,
        **asdict(request.place),
        **observed,
    )


def _reported_tokens(completion: Completion) -> int | None:
    """Return the output tokens as the server reported them, before any correction."""
    if completion.usage is None or completion.usage.output_tokens is None:
        return None
    return completion.usage.output_tokens - completion.usage.left_out


def _counted(completion: Completion, text_tokens: int | None) -> tuple[int | None, CountedBy | None]:
    """Return the output tokens of a complete answer and who counted them: the server, a tokenizer, or its chunks."""
    if completion.outcome is not Outcome.OK or completion.produces != "tokens":
        return None, None
    counted = completion.usage.output_tokens if completion.usage is not None else None
    if (
        completion.usage is not None and counted is not None and (counted or not completion.has_text)
    ):  # 0 tokens next to text is not a count
        return counted, CountedBy.USAGE_CORRECTED if completion.usage.left_out else CountedBy.USAGE
    if completion.stated_tokens and len(completion.stated_tokens) == completion.chunks:
        return sum(completion.stated_tokens), CountedBy.USAGE
    if text_tokens:
        return text_tokens, CountedBy.TOKENIZER
    if completion.chunk_times:
        return completion.chunks, CountedBy.CHUNKS
    return None, None


def _first_chunk_tokens(completion: Completion, output_tokens: int | None, counted_by: CountedBy | None) -> int | None:
    """Return the tokens of the first chunk where they are known: stated, or 1 as there are as many tokens as chunks."""
    if not completion.chunk_times:
        return None
    if completion.first_chunk_tokens is not None:
        return completion.first_chunk_tokens
    one_each = output_tokens == completion.chunks and counted_by is not CountedBy.CHUNKS
    return 1 if one_each else None

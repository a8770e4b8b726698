"""From an answer to its record: who counts the tokens, and which times stand in it."""

from collections.abc import Callable
from typing import Literal

from loadgen.protocol.completion import Completion
from loadgen.protocol.job import Job
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.wire.trace import trace_id
from loadgen.wire.transcript import Arrivals, Transcript

TokenCounter = Callable[[str], int]
"""Counts the tokens of a text."""


def record_of(
    job: Job,
    transcript: Transcript,
    arrivals: Arrivals,
    answer: Completion,
    count_tokens: TokenCounter | None,
    client: Literal["own", "openai"] = "own",
) -> RequestRecord:
    """Return the record of one request."""
    text_tokens = None if count_tokens is None or answer.outcome is not Outcome.OK else count_tokens(answer.text)
    output_tokens, counted_by = _counted(answer, text_tokens)
    chunks: list[int] = list(answer.chunk_times)
    return RequestRecord(
        request_id=job.request_id,
        trace_id=trace_id(job.request_id),
        phase=job.phase,
        worker=job.worker,
        step=job.step,
        prompt_row=job.prompt_row,
        round=job.round,
        client=client,
        connection=transcript.connection,
        connect_ns=transcript.connect,
        connected_ns=transcript.connected,
        scheduled_ns=job.scheduled,
        sent_ns=transcript.sent,
        first_byte_ns=arrivals.at[0] if arrivals.at else None,
        first_token_ns=chunks[0] if chunks else None,
        last_token_ns=chunks[-1] if chunks else None,
        end_ns=transcript.end,
        stamp="kernel" if arrivals.stamped else "user",
        first_token_interval_ns=answer.first_width,
        last_token_interval_ns=answer.last_width,
        end_interval_ns=transcript.end_width,
        read_delay_ns=arrivals.longest_delay(),
        input_tokens=answer.usage.input_tokens if answer.usage else None,
        cached_tokens=answer.usage.cached_tokens if answer.usage else None,
        output_tokens=output_tokens,
        counted_by=counted_by,
        usage_tokens=_told(answer),
        rejected_usage=answer.rejected_usage,
        text_tokens=text_tokens,
        first_chunk_tokens=_first_chunk_tokens(answer, output_tokens, counted_by),
        lazy=transcript.lazy,
        chunks=answer.chunks,
        coalesced_chunks=None if transcript.lazy or client != "own" else answer.coalesced,
        output_characters=len(answer.text) if answer.outcome is Outcome.OK and not answer.skipped else None,
        chunk_ns=chunks if chunks and not transcript.lazy else None,
        outcome=answer.outcome,
        error=answer.error,
        http_status=transcript.response.status or None,
        finish_reason=answer.finish_reason,
        server_prefill_ms=answer.timings.prefill_ms if answer.timings else None,
        server_tpot_ms=answer.timings.tpot_ms if answer.timings else None,
    )


def dropped(job: Job, why: str) -> RequestRecord:
    """Return the record of a request that was due and is not made."""
    return RequestRecord(
        request_id=job.request_id,
        phase=job.phase,
        worker=job.worker,
        step=job.step,
        prompt_row=job.prompt_row,
        round=job.round,
        scheduled_ns=job.scheduled,
        outcome=Outcome.DROPPED,
        error=why,
    )


def _told(answer: Completion) -> int | None:
    """Return what the server itself said."""
    if answer.usage is None or answer.usage.output_tokens is None:
        return None
    return answer.usage.output_tokens - answer.usage.left_out


def _counted(answer: Completion, text_tokens: int | None) -> tuple[int | None, CountedBy | None]:
    """Return the output tokens of a complete answer and who counted them: the server, a tokenizer, or its chunks."""
    if answer.outcome is not Outcome.OK:
        return None, None
    counted = answer.usage.output_tokens if answer.usage is not None else None
    if (
        answer.usage is not None and counted is not None and (counted or not answer.text)
    ):  # text of 0 tokens is no count
        return counted, CountedBy.USAGE_CORRECTED if answer.usage.left_out else CountedBy.USAGE
    if answer.told_tokens and len(answer.told_tokens) == answer.chunks:
        return sum(answer.told_tokens), CountedBy.USAGE
    if text_tokens:
        return text_tokens, CountedBy.TOKENIZER
    if answer.chunk_times:
        return answer.chunks, CountedBy.CHUNKS
    return None, None


def _first_chunk_tokens(answer: Completion, output_tokens: int | None, counted_by: CountedBy | None) -> int | None:
    """Return the tokens of the first chunk where they are known: told, or one each as there are as many chunks."""
    if not answer.chunk_times:
        return None
    if answer.first_chunk_tokens is not None:
        return answer.first_chunk_tokens
    one_each = output_tokens == answer.chunks and counted_by is not CountedBy.CHUNKS
    return 1 if one_each else None

"""The record: one request as it was observed. Everything after the socket consumes records and nothing else."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec


class Outcome(StrEnum):
    """What became of a request. The list is closed: an unknown fault is a bug in loadgen and is raised."""

    OK = "ok"
    RATE_LIMITED = "rate_limited"
    """HTTP 429 or 529: the server, or a gateway before it, wants fewer requests."""
    HTTP_3XX = "http_3xx"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    REFUSED = "refused"
    """No connection: refused, unreachable, or reset while connecting."""
    CLIENT_LIMIT = "client_limit"
    """No connection, by a limit of our own machine: no local port is left, or no file may be opened."""
    DNS = "dns"
    TLS = "tls"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_BYTE_TIMEOUT = "first_byte_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    BROKEN_STREAM = "broken_stream"
    """The answer stopped before it was complete, or reported an error in its middle."""
    BAD_PROTOCOL = "bad_protocol"
    """What came was not HTTP, not server-sent events, or not the JSON of the API."""
    EMPTY = "empty"
    """HTTP 200 and a well-formed answer without a single token."""
    ABORTED = "aborted"
    """Ended by us: the run stopped before the answer was complete."""
    DROPPED = "dropped"
    """Scheduled and never sent."""


class Phase(StrEnum):
    """Which part of the run a request belongs to; figures count the measured phase only."""

    WARMUP = "warmup"
    MEASURE = "measure"


class CountedBy(StrEnum):
    """Who counted the output tokens, the most trustworthy first."""

    USAGE = "usage"
    """The server's own count."""
    USAGE_CORRECTED = "usage_corrected"
    """The server's count, corrected for a miscount that is known of this engine."""
    TOKENIZER = "tokenizer"
    """A local tokenizer on the answer's text."""
    CHUNKS = "chunks"
    """Chunks taken for tokens, for want of anything better: a lower bound."""


Moment = Annotated[int, msgspec.Meta(description="time on the process's monotonic clock, ns")]


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """One request, as observed; a line of ``records.jsonl``.

    A ``Moment`` is a time on the process's monotonic clock, ns (``run.json`` anchors it to wall time). Names ending in
    ``_interval_ns`` are widths: the arrival lies in ``[time - width, time]``, 0 where it is known
    exactly. None means "did not happen" or "not reported", never 0.
    """

    schema: Literal[1] = 1
    request_id: str
    """Also sent as the header ``x-request-id``."""
    trace_id: str | None = None
    """32 hexadecimal digits, sent in the header ``traceparent`` (W3C Trace Context): finds the request in an engine's
    traces."""
    phase: Phase
    worker: int = 0
    step: int | None = None
    """Index of the load step, None where the run has no steps."""
    user: int | None = None
    """Number of the user, over all workers; None in the warm-up, in the open loop, and in older records."""
    name: str | None = None
    """Name that the user's code gave to requests of this kind."""
    conversation: int | None = None
    turn: int | None = None
    """Index of the turn within the conversation."""
    prompt_row: int | None = None
    """Row of the data set; None where the prompt is from no data set."""
    round: int = 0
    """How many times the sample had been completed before this request."""
    client: Literal["own", "openai"] = "own"
    connection: Literal["new", "reused", "replaced"] | None = None
    """``replaced``: a kept connection had gone stale and was opened anew, before any byte of an answer."""

    connect_ns: Moment | None = None
    """When opening the connection began; None on a reused connection."""
    connected_ns: Moment | None = None
    """When the connection was ready, TLS included."""
    scheduled_ns: Moment | None = None
    """When the schedule wanted it sent (open loop only)."""
    think_ns: int | None = None
    """Time from the end of the user's answer before to the call that asked for this request, ns: think time and the
    user's own code. None for the first request of a user, and where nobody looked."""
    sent_ns: Moment | None = None
    """Just before the send call of the request's last byte."""
    first_byte_ns: Moment | None = None
    first_token_ns: Moment | None = None
    """First event with content, reasoning or a tool call; None when the answer was not streamed."""
    last_token_ns: Moment | None = None
    end_ns: Moment | None = None
    """End of the response, or of the attempt."""
    stamp: Literal["kernel", "user"] = "user"
    """Who took the receive times."""
    first_token_interval_ns: int | None = None
    last_token_interval_ns: int | None = None
    end_interval_ns: int | None = None
    lazy: bool = False
    """Drained in large reads after the first token, so without times between first and last."""
    read_delay_ns: int | None = None
    """Longest time from a kernel receive stamp to the read in user space; None without kernel stamps."""

    max_tokens: int | None = None
    """Longest answer that was asked for, tokens; None in older records."""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    """Input tokens that were served from the prefix cache, where the server reports it."""
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    """Output tokens that are reasoning, where the server reports them apart."""
    hidden_tokens: int | None = None
    """Output tokens that the server counts and its stream did not show; None where nobody can tell."""
    choices: int | None = None
    """Answers to the one question, where there was more than one (``n``); the tokens are those of all."""
    counted_by: CountedBy | None = None
    usage_tokens: int | None = None
    """Output tokens as the server reported them, before any correction."""
    rejected_usage: str | None = None
    """Numbers in the server's usage that cannot be counts of tokens, in its own words; they are taken for missing."""
    text_tokens: int | None = None
    """Tokens of the answer's text by a local tokenizer, where there is one."""
    first_chunk_tokens: int | None = None
    """Tokens in the first chunk, where that is known."""
    streamed: bool | None = None
    """Whether the answer came as a stream of events; None where no answer came."""
    chunks: int | None = 0
    """Events that carried content, reasoning or a tool call; of a lazily drained stream only counted where the server
    gave no count of tokens."""
    coalesced_chunks: int | None = None
    """Chunks that were read together with a later one, so that their arrival is an interval; None where nobody looked.
    """
    output_characters: int | None = None
    chunk_ns: list[Moment] | None = None
    """Arrival of each chunk, for a stream that was read token by token."""

    outcome: Outcome
    error: str | None = None
    http_status: int | None = None
    retry_after_s: float | None = None
    """How long the server wants to be left alone, where it refused the request and said so."""
    finish_reason: str | None = None
    server_prefill_ms: float | None = None
    """The engine's own timing of this request, where it reports one (llama.cpp)."""
    server_tpot_ms: float | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(RequestRecord)


def to_line(record: RequestRecord) -> bytes:
    """Encode a record as one line of JSON, newline included."""
    return _ENCODER.encode(record) + b"\n"


def from_line(line: bytes) -> RequestRecord:
    """Decode a line of ``records.jsonl``; raises msgspec.DecodeError on anything else."""
    return _DECODER.decode(line)

"""The JSON of chat completions: an event of a stream, or a whole answer. Strictly decoded, and leniently where need be.

Only what is counted or timed is read. A value that nobody needs must not cost an answer: half of a surrogate pair,
bytes that are not UTF-8, NaN, content in parts. What the strict decoder refuses is decoded again by :mod:`json`, which
takes all of these.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from loadgen.protocol.api import ApiError, decode_json
from loadgen.protocol.errors import ErrorFields

MISSING = msgspec.Raw()

_WHAT = "a chat completion"

_Fields = TypeVar("_Fields", bound=msgspec.Struct)


class Function(msgspec.Struct):
    """A called function, or a custom tool: then its arguments are ``input``."""

    name: str | None = None
    arguments: Any = None
    input: Any = None


class ToolCall(msgspec.Struct):
    """A piece of a tool call."""

    function: Function | None = None
    custom: Function | None = None


class Message(msgspec.Struct, gc=False):
    """A delta of a stream or a whole message: the fields are the same. Reasoning has many names."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    reasoning_text: str | None = None
    thinking: str | None = None
    reasoning_details: Any = None
    refusal: str | None = None
    audio: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers to a question; nearly always the only one."""

    index: int | None = 0
    delta: Message | None = None
    message: Message | None = None
    finish_reason: str | None = None


class CountedUsage(msgspec.Struct):
    """Counts are decoded separately, so that an invalid one does not lose the answer."""

    prompt_tokens: msgspec.Raw = MISSING
    completion_tokens: msgspec.Raw = MISSING
    total_tokens: msgspec.Raw = MISSING
    input_tokens: msgspec.Raw = MISSING
    output_tokens: msgspec.Raw = MISSING
    prompt_tokens_details: msgspec.Raw = MISSING
    completion_tokens_details: msgspec.Raw = MISSING


class ServerTimings(msgspec.Struct):
    """llama.cpp's own."""

    prompt_ms: msgspec.Raw = MISSING
    predicted_per_token_ms: msgspec.Raw = MISSING


class GroqFields(msgspec.Struct):
    """What Groq adds."""

    usage: CountedUsage | None = None
    error: Any = None


class Chunk(ErrorFields, gc=False):
    """One event of a stream, or a whole answer."""

    choices: list[Choice] | None = None
    usage: CountedUsage | None = None
    timings: ServerTimings | None = None
    x_groq: GroqFields | None = None


_STRICT = msgspec.json.Decoder(Chunk)
_STRICT_ALL = msgspec.json.Decoder(list[Chunk])


def decode_chunk(data: bytes) -> Chunk:
    """Decode one event or answer; raises ApiError for what is no JSON object."""
    try:
        return decode_json(_STRICT, data, _WHAT)
    except ApiError as error:
        value = _loaded(data)
        if not isinstance(value, dict) or not isinstance(value.get("choices"), list | None):
            raise error from None
        return _chunk_of(value)


def decode_chunks(events: Sequence[bytes]) -> list[Chunk] | None:
    """Decode events as one JSON array, as a call for each costs more than the parsing; None where that cannot be."""
    try:
        chunks = _STRICT_ALL.decode(b"[" + b",".join(events) + b"]")
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return chunks if len(chunks) == len(events) else None


def _loaded(data: bytes) -> object:
    try:
        return json.loads(data.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _chunk_of(value: dict[str, Any]) -> Chunk:
    return Chunk(
        **{name: value.get(name) for name in ErrorFields.__struct_fields__},
        choices=_choices_of(value.get("choices")),
        usage=_usage_of(value.get("usage")),
        timings=_raw_fields(ServerTimings, value.get("timings")),
        x_groq=_groq_of(value.get("x_groq")),
    )


def _choices_of(value: object) -> list[Choice] | None:
    if not isinstance(value, list):
        return None
    return [
        Choice(
            index=index if isinstance(index := one.get("index"), int) else 0,
            delta=_message_of(one.get("delta")),
            message=_message_of(one.get("message")),
            finish_reason=reason if isinstance(reason := one.get("finish_reason"), str) else None,
        )
        for one in value
        if isinstance(one, dict)
    ]


def _message_of(value: object) -> Message | None:
    if not isinstance(value, dict):
        return None
    calls = value.get("tool_calls")
    texts = ("content", "reasoning", "reasoning_content", "reasoning_text", "thinking", "refusal")
    return Message(
        **{name: text_in(value.get(name)) or None for name in texts},
        reasoning_details=value.get("reasoning_details"),
        audio=value.get("audio"),
        tool_calls=[_call_of(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else None,
        function_call=_function_of(value.get("function_call")),
    )


def _call_of(value: dict[str, Any]) -> ToolCall:
    return ToolCall(_function_of(value.get("function")), _function_of(value.get("custom")))


def _function_of(value: object) -> Function | None:
    if not isinstance(value, dict):
        return None
    return Function(text_in(value.get("name")) or None, value.get("arguments"), value.get("input"))


def _groq_of(value: object) -> GroqFields | None:
    return GroqFields(_usage_of(value.get("usage")), value.get("error")) if isinstance(value, dict) else None


def _usage_of(value: object) -> CountedUsage | None:
    return _raw_fields(CountedUsage, value)


def _raw_fields(kind: type[_Fields], value: object) -> _Fields | None:
    """Return a struct all of whose fields stay undecoded."""
    if not isinstance(value, dict):
        return None
    return kind(**{name: _raw(value[name]) for name in kind.__struct_fields__ if name in value})


def _raw(value: object) -> msgspec.Raw:
    try:
        return msgspec.Raw(json.dumps(value).encode())
    except (ValueError, RecursionError):
        return MISSING


_PARTS_WITHIN = 8
"""Levels of parts within parts that are read; real ones have two."""


def text_in(value: object, levels: int = _PARTS_WITHIN) -> str:
    """Return the text of a field: a string, or a list of parts that hold text or further parts.

    Mistral's reasoning models and Databricks' gpt-oss send ``[{"type": "thinking", "thinking": [{"text": ...}]}]``.
    """
    if isinstance(value, str):
        return value
    if not levels or not isinstance(value, list | dict):
        return ""
    parts = value if isinstance(value, list) else [value.get(name) for name in ("text", "thinking", "summary")]
    return "".join(text_in(part, levels - 1) for part in parts)

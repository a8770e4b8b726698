"""The chat route of OpenAI's protocol, with the differences between engines as settings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from loadgen.protocol.api import (
    LONGEST_MS,
    ApiError,
    Delta,
    Product,
    Timings,
    Usage,
    counts_of,
    decode_json,
    number_of,
)
from loadgen.protocol.errors import ErrorFields, error_in
from loadgen.request import Request

DONE = b"[DONE]"
_TOKEN = re.compile(rb'"(?:content|reasoning|reasoning_content|refusal|arguments|name)": ?"(?!")')
"""A field with text in it, as it stands in an event. Inside a string it could not stand: quotes are escaped there."""

_TEXT = re.compile(rb'"(?:content|reasoning|reasoning_content)": ?"((?:[^"\\]++|\\.)++)"')
"""The text of a field that is not empty."""

_COMPLETION = "a chat completion"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    """A delta of a stream or a whole message: the fields are the same."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


_MISSING = msgspec.Raw()


class _PromptDetails(msgspec.Struct):
    cached_tokens: msgspec.Raw = _MISSING


class _Usage(msgspec.Struct):
    """Counts are decoded separately, so that an invalid one does not lose the answer."""

    prompt_tokens: msgspec.Raw = _MISSING
    completion_tokens: msgspec.Raw = _MISSING
    prompt_tokens_details: msgspec.Raw = _MISSING


class _Timings(msgspec.Struct):
    prompt_ms: msgspec.Raw = _MISSING
    predicted_per_token_ms: msgspec.Raw = _MISSING


class _Chunk(ErrorFields, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_CHUNKS = msgspec.json.Decoder(list[_Chunk])
_DETAILS = msgspec.json.Decoder(_PromptDetails)


@dataclass(frozen=True, slots=True)
class ChatApi:
    """``POST /v1/chat/completions``."""

    ask_usage: bool = True
    """Send ``stream_options.include_usage``: without it most engines report no usage in a stream."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body that only this engine knows."""
    uncounted_tokens: int = 0
    """Tokens by which this engine's ``completion_tokens`` falls short."""
    produces: ClassVar[Product] = "tokens"
    stream_end: ClassVar[bytes | None] = b"data: " + DONE

    def path(self, *, stream: bool) -> str:  # noqa: ARG002 one route for both
        """Return the chat route."""
        return "/v1/chat/completions"

    def body(self, request: Request) -> Mapping[str, Any]:
        """Return the body."""
        body: dict[str, Any] = {
            **self.extra,
            **request.body,
            "model": request.model,
            "messages": request.messages,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": request.stream,
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.stream and self.ask_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def read_event(self, data: bytes) -> Delta:
        """Read one event: role, content, finish and usage may come together or apart, or not at all."""
        if data.strip() == DONE:
            return Delta(done=True)
        return self._read(data)

    def has_token(self, data: bytes) -> object:
        """Tell whether a piece of a stream holds a token."""
        return _TOKEN.search(data)

    def text_span(self, event: bytes) -> tuple[int, int] | None:
        """Return where the text of an event seems to lie."""
        match = _TEXT.search(event)
        return None if match is None else match.span(1)

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        """Read all events, as one JSON array if it can be: a call for each costs more than the parsing."""
        done = bool(events) and events[-1].strip() == DONE
        try:
            chunks = _CHUNKS.decode(b"[" + b",".join(events[:-1] if done else events) + b"]")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            chunks = []
        if len(chunks) != len(events) - done:  # something else among them: it is found by reading one by one
            return [self.read_event(data) for data in events]
        said: list[Delta | str] = [_only_text(chunk) or self._delta(chunk) for chunk in chunks]
        return [*said, Delta(done=True)] if done else said

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer."""
        return self._read(body)

    def _read(self, data: bytes) -> Delta:
        return self._delta(decode_json(_CHUNK, data, _COMPLETION))

    def _delta(self, chunk: _Chunk) -> Delta:
        if (chunk.error or not chunk.choices) and (
            reported := error_in(chunk, is_answer=chunk.choices is not None)
        ) is not None:
            return Delta(error=reported)
        usage = None if chunk.usage is None else self._usage(chunk.usage)
        timings = None if chunk.timings is None else _timings(chunk.timings)
        if not chunk.choices:
            return Delta(usage=usage, timings=timings)
        choice = chunk.choices[0]
        said = choice.delta or choice.message
        return Delta("" if said is None else _text(said), choice.finish_reason, usage, timings=timings)

    def _usage(self, usage: _Usage) -> Usage:
        raw = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        counts, rejected = counts_of(raw | {"cached_tokens": _cached(usage)})
        counted = counts["completion_tokens"]
        return Usage(
            counts["prompt_tokens"],
            None if counted is None else counted + self.uncounted_tokens,
            left_out=0 if counted is None else self.uncounted_tokens,
            cached_tokens=counts["cached_tokens"],
            rejected=rejected,
        )


def _cached(usage: _Usage) -> msgspec.Raw:
    """Return what the usage says of cached tokens, whatever it is."""
    if not bytes(usage.prompt_tokens_details):
        return _MISSING
    try:
        return decode_json(_DETAILS, usage.prompt_tokens_details, "details").cached_tokens
    except ApiError:
        return _MISSING


def _only_text(chunk: _Chunk) -> str | None:
    """Return the text of an event that is one piece of text and nothing else."""
    if not chunk.choices or chunk.error or chunk.usage is not None or chunk.timings is not None:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or choice.finish_reason is not None or delta.tool_calls or delta.refusal or delta.function_call:
        return None
    if delta.content:
        return None if delta.reasoning or delta.reasoning_content else delta.content
    return delta.reasoning_content or delta.reasoning


def _timings(timings: _Timings) -> Timings:
    return Timings(number_of(timings.prompt_ms, LONGEST_MS), number_of(timings.predicted_per_token_ms, LONGEST_MS))


def _text(said: _Message) -> str:
    """Return all that was generated; nearly always it is content and nothing else."""
    text = said.content or ""
    if said.reasoning_content is None and said.reasoning is None and said.tool_calls is None:
        return text + said.refusal if said.refusal else text + _called([said.function_call])
    calls = [call.function for call in said.tool_calls or ()]
    return (said.reasoning_content or said.reasoning or "") + text + _called(calls)


def _called(calls: Sequence[_Function | None]) -> str:
    return "".join(f"{call.name or ''}{call.arguments or ''}" for call in calls if call is not None)

"""The chat route of OpenAI's protocol, with the differences between engines as settings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from loadgen.wire.dialect import Ask, Delta, DialectError, Timings, Usage

DONE = b"[DONE]"
_TOKEN = re.compile(rb'"(?:content|reasoning|reasoning_content|arguments|name)": ?"(?!")')
"""A field with text in it, as it stands in an event. Inside a string it could not stand: quotes are escaped there."""


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


class _Usage(msgspec.Struct):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    prompt_tokens_details: Any = None
    """Not worth an answer, whatever it is."""


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_per_token_ms: float | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: Any = None
    error_code: int | None = None
    object: str | None = None
    message: str | None = None
    text: str | None = None
    detail: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_CHUNKS = msgspec.json.Decoder(list[_Chunk])


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """``POST /v1/chat/completions``."""

    ask_usage: bool = True
    """Send ``stream_options.include_usage``: without it most engines report no usage in a stream."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body that only this engine knows."""
    uncounted_tokens: int = 0
    """Tokens by which this engine's ``completion_tokens`` falls short."""

    def path(self, *, stream: bool) -> str:  # noqa: ARG002 one route for both
        """Return the chat route."""
        return "/v1/chat/completions"

    def body(self, ask: Ask) -> Mapping[str, Any]:
        """Return the body: one user message."""
        body: dict[str, Any] = {
            **self.extra,
            **ask.fields,
            "model": ask.model,
            "messages": [{"role": "user", "content": ask.prompt}],
            "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "stream": ask.stream,
        }
        if ask.stop:
            body["stop"] = list(ask.stop)
        if ask.stream and self.ask_usage:
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

    def count_chunks(self, body: bytes) -> int:
        """Count the events that hold a token."""
        if b"_call" in body:  # several fields of one event may hold text
            return sum(1 for line in body.split(b"\n") if line and _TOKEN.search(line))
        return len(_TOKEN.findall(body))

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        """Read all events, as one JSON array if it can be: a call for each costs more than the parsing."""
        done = bool(events) and events[-1].strip() == DONE
        try:
            chunks = _CHUNKS.decode(b"[" + b",".join(events[:-1] if done else events) + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError):
            chunks = []
        if len(chunks) != len(events) - done:  # something else among them: it is found by reading one by one
            return [self.read_event(data) for data in events]
        said: list[Delta | str] = []
        for chunk in chunks:
            if chunk.choices and chunk.usage is None:
                choice = chunk.choices[0]
                delta = choice.delta
                if delta is not None and delta.content and choice.finish_reason is None and not _says_more(delta):
                    said.append(delta.content)
                    continue
            said.append(self._delta(chunk))
        return [*said, Delta(done=True)] if done else said

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer."""
        return self._read(body)

    def _read(self, data: bytes) -> Delta:
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DialectError(f"not a chat completion: {error}: {data!r}") from None
        return self._delta(chunk)

    def _delta(self, chunk: _Chunk) -> Delta:
        if not chunk.choices and (reported := _error_of(chunk)) is not None:
            return Delta(error=reported)
        usage = None if chunk.usage is None else self._usage(chunk.usage)
        timings = (
            None if chunk.timings is None else Timings(chunk.timings.prompt_ms, chunk.timings.predicted_per_token_ms)
        )
        if not chunk.choices:
            return Delta(usage=usage, timings=timings)
        choice = chunk.choices[0]
        said = choice.delta or choice.message
        return Delta("" if said is None else _text(said), choice.finish_reason, usage, timings=timings)

    def _usage(self, usage: _Usage) -> Usage:
        given = None if usage.prompt_tokens is None else int(usage.prompt_tokens)
        cached = _cached(usage.prompt_tokens_details)
        if usage.completion_tokens is None or usage.completion_tokens < 0:  # less than nothing is no count
            return Usage(given, None, cached_tokens=cached)
        counted = int(usage.completion_tokens) + self.uncounted_tokens
        return Usage(given, counted, left_out=self.uncounted_tokens, cached_tokens=cached)


def _cached(details: Any) -> int | None:  # noqa: ANN401 as the server says it
    told = details.get("cached_tokens") if isinstance(details, dict) else None
    return told if isinstance(told, int) and told >= 0 else None


def error_message(body: bytes) -> str:
    """Return the server's own message from the body of an error answer, as far as there is one."""
    try:
        chunk = _CHUNK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode(errors="replace").strip()
    return _error_of(chunk) or chunk.message or body.decode(errors="replace").strip()


def _error_of(chunk: _Chunk) -> str | None:
    """Find an error in any of the shapes that engines give it."""
    if chunk.error is not None:
        return _text_of(chunk.error)
    if chunk.object == "error" or chunk.error_code:
        return chunk.message or chunk.text or "error without a message"
    if chunk.detail is not None and chunk.choices is None:
        return _text_of(chunk.detail)
    return None


def _text_of(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _says_more(said: _Message) -> object:
    """Tell whether there is anything beside content."""
    return said.reasoning or said.reasoning_content or said.tool_calls or said.refusal or said.function_call


def _text(said: _Message) -> str:
    """Return all that was generated; nearly always it is content and nothing else."""
    text = said.content or ""
    if said.reasoning_content is None and said.reasoning is None and said.tool_calls is None:
        return text + said.refusal if said.refusal else text + _called([said.function_call])
    calls = [call.function for call in said.tool_calls or ()]
    return (said.reasoning_content or said.reasoning or "") + text + _called(calls)


def _called(calls: Sequence[_Function | None]) -> str:
    return "".join(f"{call.name or ''}{call.arguments or ''}" for call in calls if call is not None)

"""The chat route of OpenAI's protocol, with the differences between engines as settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from loadgen.wire.dialect import Ask, Delta, DialectError, Timings, Usage

DONE = b"[DONE]"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Message(msgspec.Struct):
    """A delta of a stream or a whole message: the fields are the same."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None


class _Choice(msgspec.Struct):
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_per_token_ms: float | None = None


class _Chunk(msgspec.Struct):
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
            "model": ask.model,
            "messages": [{"role": "user", "content": ask.prompt}],
            "max_tokens": ask.max_tokens,
            "temperature": ask.temperature,
            "stream": ask.stream,
        }
        if ask.stream and self.ask_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def read_event(self, data: bytes) -> Delta:
        """Read one event: role, content, finish and usage may come together or apart, or not at all."""
        if data.strip() == DONE:
            return Delta(done=True)
        return self._read(data)

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer."""
        return self._read(body)

    def _read(self, data: bytes) -> Delta:
        try:
            chunk = _CHUNK.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DialectError(f"not a chat completion: {error}: {data[:200]!r}") from None
        reported = _error_of(chunk)
        if reported is not None:
            return Delta(error=reported)
        choice = chunk.choices[0] if chunk.choices else _Choice()
        said = choice.delta or choice.message or _Message()
        return Delta(
            text=(said.content or "") + (said.refusal or ""),
            reasoning=said.reasoning_content or said.reasoning or "",
            tool=_tool_text(said),
            finish_reason=choice.finish_reason,
            usage=self._usage(chunk.usage),
            timings=Timings(chunk.timings.prompt_ms, chunk.timings.predicted_per_token_ms) if chunk.timings else None,
        )

    def _usage(self, usage: _Usage | None) -> Usage | None:
        if usage is None:
            return None
        output = usage.completion_tokens
        if output is None or self.uncounted_tokens == 0:
            return Usage(usage.prompt_tokens, output)
        return Usage(usage.prompt_tokens, output + self.uncounted_tokens, corrected=True)


def error_message(body: bytes) -> str:
    """Return the server's own message from the body of an error answer, as far as there is one."""
    try:
        chunk = _CHUNK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body[:300].decode(errors="replace").strip()
    return _error_of(chunk) or chunk.message or body[:300].decode(errors="replace").strip()


def _error_of(chunk: _Chunk) -> str | None:
    """Find an error in any of the shapes that engines give it."""
    if chunk.error is not None:
        return _text_of(chunk.error)
    if chunk.object == "error" or chunk.error_code is not None:
        return chunk.message or chunk.text or "error without a message"
    if chunk.detail is not None and chunk.choices is None:
        return _text_of(chunk.detail)
    return None


def _text_of(value: object) -> str:
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    return value if isinstance(value, str) else msgspec.json.encode(value)[:300].decode(errors="replace")


def _tool_text(said: _Message) -> str:
    calls = [call.function for call in said.tool_calls or () if call.function is not None]
    if said.function_call is not None:
        calls.append(said.function_call)
    return "".join((call.name or "") + (call.arguments or "") for call in calls)

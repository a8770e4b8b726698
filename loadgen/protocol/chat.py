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
from loadgen.protocol.chat_chunk import (
    MISSING,
    Chunk,
    CountedUsage,
    Function,
    Message,
    ServerTimings,
    decode_chunk,
    decode_chunks,
    text_in,
)
from loadgen.protocol.errors import error_in, text_of
from loadgen.request import Request

DONE = b"[DONE]"
_DONE = frozenset({DONE, b'"[DONE]"', b'["DONE"]', b'["[DONE]"]'})
"""The end mark, and what proxies that quote it make of it."""

_TOKEN = re.compile(
    rb'"(?:content|reasoning|reasoning_content|reasoning_text|thinking|text|refusal|arguments|name|input|transcript|data)"'
    rb'\s*+:\s*+"(?!")'
)
"""A field with text in it, as it stands in an event. Inside a string it could not stand: quotes are escaped there."""

_REASONING = re.compile(
    rb'"(?:reasoning|reasoning_content|reasoning_text|thinking|reasoning_details)"\s*+:\s*+(?:"(?!")|\[\s*+\{)'
)
"""A field with reasoning in it, of whatever name."""

_TEXT = re.compile(rb'"(?:content|reasoning|reasoning_content)"\s*+:\s*+"((?:[^"\\]++|\\.)++)"')
"""The text of a field that is not empty."""

_DETAILS = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class ChatApi:
    """``POST /v1/chat/completions``."""

    ask_usage: bool = True
    """Send ``stream_options.include_usage``: without it most engines report no usage in a stream."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body that only this engine knows."""
    limit_field: str = "max_tokens"
    """What the limit of an answer's length is called: OpenAI's newer models want ``max_completion_tokens``."""
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
            self.limit_field: request.max_tokens,
            "temperature": request.temperature,
            **request.body,
            "model": request.model,
            "messages": request.messages,
            "stream": request.stream,
        }
        if request.stop:
            body["stop"] = list(request.stop)
        if request.stream and self.ask_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def read_event(self, data: bytes) -> Delta:
        """Read one event: role, content, finish and usage may come together or apart, or not at all."""
        if data.strip() in _DONE:
            return Delta(done=True)
        return self._delta(decode_chunk(data))

    def has_token(self, data: bytes) -> object:
        """Tell whether a piece of a stream holds a token."""
        return _TOKEN.search(data)

    def has_reasoning(self, data: bytes) -> bool:
        """Tell whether a stream shows reasoning."""
        return _REASONING.search(data) is not None

    def text_span(self, event: bytes) -> tuple[int, int] | None:
        """Return where the text of an event seems to lie."""
        match = _TEXT.search(event)
        return None if match is None else match.span(1)

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        """Read all events, as one JSON array if it can be."""
        done = bool(events) and events[-1].strip() in _DONE
        chunks = decode_chunks(events[:-1] if done else events)
        if chunks is None:  # something else among them: it is found by reading one by one
            return [self.read_event(data) for data in events]
        said: list[Delta | str] = [_only_text(chunk) or self._delta(chunk) for chunk in chunks]
        return [*said, Delta(done=True)] if done else said

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer."""
        return self._delta(decode_chunk(body))

    def _delta(self, chunk: Chunk) -> Delta:
        error = _error_of(chunk)
        usage = chunk.usage or (None if chunk.x_groq is None else chunk.x_groq.usage)
        counted = None if usage is None else self._usage(usage)
        timings = None if chunk.timings is None else _timings(chunk.timings)
        if not chunk.choices:
            return Delta(usage=counted, timings=timings, error=error)
        texts, reason, is_whole, choices = [], None, True, len(chunk.choices)
        for choice in chunk.choices:  # a loop, as generators would cost more than all that they go through
            message = choice.delta or choice.message
            texts.append("" if message is None else _text(message))
            reason = reason or choice.finish_reason
            is_whole = is_whole and choice.delta is None
            choices = max(choices, (choice.index or 0) + 1)
        return Delta("".join(texts), reason, counted, error, timings=timings, is_whole=is_whole, choices=choices)

    def _usage(self, usage: CountedUsage) -> Usage:
        """Return the server's counts, plus the tokens that it leaves out of ``completion_tokens``."""
        given_by = "prompt_tokens" if bytes(usage.prompt_tokens) else "input_tokens"
        counted_by = "completion_tokens" if bytes(usage.completion_tokens) else "output_tokens"
        counts, rejected = counts_of(
            {
                given_by: getattr(usage, given_by),
                counted_by: getattr(usage, counted_by),
                "cached_tokens": _detail(usage.prompt_tokens_details, "cached_tokens"),
                "reasoning_tokens": _detail(usage.completion_tokens_details, "reasoning_tokens"),
            }
        )
        given, counted, reasoning = counts[given_by], counts[counted_by], counts["reasoning_tokens"]
        left_out = 0
        if counted is not None:
            left_out = self.uncounted_tokens
            if reasoning and given is not None and _total(usage) == given + counted + reasoning:
                left_out += reasoning
        return Usage(
            given,
            None if counted is None else counted + left_out,
            left_out=left_out,
            cached_tokens=counts["cached_tokens"],
            reasoning_tokens=reasoning,
            rejected=rejected,
        )


def _total(usage: CountedUsage) -> int | None:
    """Return the sum that a server states: xAI, and proxies before Gemini, count reasoning there and nowhere else."""
    return counts_of({"total_tokens": usage.total_tokens})[0]["total_tokens"]


def _detail(details: msgspec.Raw, name: str) -> msgspec.Raw:
    """Return a count from the details of a usage, whatever they are."""
    if not bytes(details):
        return MISSING
    try:
        return decode_json(_DETAILS, details, "details").get(name, MISSING)
    except ApiError:
        return MISSING


def _error_of(chunk: Chunk) -> str | None:
    """Return the error that an event reports, whatever else it has."""
    if chunk.x_groq is not None and chunk.x_groq.error:
        return text_of(chunk.x_groq.error)
    if chunk.choices and not chunk.error:
        return None
    return error_in(chunk, is_answer=chunk.choices is not None)


def _only_text(chunk: Chunk) -> str | None:
    """Return the text of an event that is one piece of text and nothing else."""
    choices = chunk.choices
    if not choices or chunk.error or chunk.usage is not None or chunk.timings is not None or chunk.x_groq is not None:
        return None
    choice = choices[0]
    said = choice.delta
    if said is None or choice.finish_reason or choice.index or len(choices) > 1:
        return None
    if said.tool_calls or said.refusal or said.function_call or said.audio or said.reasoning_details:
        return None
    reasoning = _reasoning(said)
    return None if said.content and reasoning else said.content or reasoning


def _timings(timings: ServerTimings) -> Timings:
    return Timings(number_of(timings.prompt_ms, LONGEST_MS), number_of(timings.predicted_per_token_ms, LONGEST_MS))


def _reasoning(said: Message) -> str | None:
    """Return the reasoning in a message, once: some servers send it under two names."""
    return said.reasoning_content or said.reasoning or said.reasoning_text or said.thinking


def _text(said: Message) -> str:
    """Return all that was generated; nearly always it is content and nothing else."""
    texts = [_reasoning(said) or (text_in(said.reasoning_details) if said.reasoning_details else "")]
    texts += (said.content or "", said.refusal or "")
    if said.audio:
        texts.append(_heard(said.audio))
    if said.tool_calls or said.function_call:
        called = [call.function or call.custom for call in said.tool_calls or ()]
        texts.append(_called([*called, said.function_call]))
    return "".join(texts)


def _called(calls: Sequence[Function | None]) -> str:
    return "".join(f"{call.name or ''}{call.arguments or ''}{call.input or ''}" for call in calls if call is not None)


def _heard(audio: object) -> str:
    """Return what an answer's audio says, or the audio itself where that is all there is."""
    if not isinstance(audio, dict):
        return ""
    return text_in(audio.get("transcript")) or text_in(audio.get("data"))

"""Servers that speak as hosted providers do: their routes, what they refuse, their streams, as documented."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving import DONE, LAST_CHUNK, SSE_HEAD, Request, Step, chunk, event, response

PAUSE_S = 0.01
WORDS = ("The", " sky", " is", " blue", ".")


def said(status: str, error: Mapping[str, Any], extra: str = "") -> Sequence[Step]:
    """A refusal."""
    return [(0.0, response(json.dumps(error).encode(), status=status, extra=extra))]


def unknown(name: str) -> dict[str, Any]:
    """OpenAI's refusal of a parameter."""
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": name, "code": "unsupported_parameter"}
    }


def data(**fields: Any) -> bytes:
    """One event of a stream."""
    return event(json.dumps(fields))


def piece(delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One event with a delta."""
    return data(choices=[{"index": 0, "delta": delta, "finish_reason": finish}], **more)


def steps(events: Iterable[bytes]) -> Sequence[Step]:
    """A stream of events, a pause before each."""
    return [(0.0, SSE_HEAD), *((PAUSE_S, chunk(one)) for one in events), (0.0, LAST_CHUNK)]


def counts(output: int, given: int = 12, **more: Any) -> dict[str, Any]:
    """A usage."""
    return {"prompt_tokens": given, "completion_tokens": output, "total_tokens": given + output} | more


def openai(_number: int, request: Request) -> Sequence[Step]:
    """A reasoning model: no ``max_tokens``, the default temperature only, reasoning out of sight, padded events."""
    body = json.loads(request.body)
    if request.headers.get("authorization") != "Bearer sk-openai":
        return said("401 Unauthorized", {"error": {"message": "Incorrect API key provided."}})
    if "max_tokens" in body:
        return said("400 Bad Request", unknown("max_tokens"))
    if body.get("temperature", 1) != 1:
        message = (
            "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."
        )
        return said("400 Bad Request", {"error": {"message": message, "param": "temperature"}})
    shown = [piece({"content": word}, obfuscation="x" * (9 - len(word))) for word in WORDS]
    usage = counts(69, completion_tokens_details={"reasoning_tokens": 64})
    return steps(
        [
            piece({"role": "assistant", "content": "", "refusal": None}),
            *shown,
            piece({}, "stop"),
            data(choices=[], usage=usage),
            DONE,
        ]
    )


def azure(_number: int, request: Request) -> Sequence[Step]:
    """Filter results first, in an event without choices."""
    if request.headers.get("api-key") != "azure-key":
        return said("401 Unauthorized", {"error": {"code": "401", "message": "Access denied due to invalid key."}})
    is_dated = request.path.startswith("/openai/deployments/gpt/chat/completions?api-version=")
    if not is_dated and request.path != "/openai/v1/chat/completions":
        return said("404 Not Found", {"error": {"code": "404", "message": "Resource not found"}})
    first = data(choices=[], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])
    shown = [piece({"content": word}) for word in WORDS]
    return steps(
        [
            first,
            piece({"role": "assistant", "content": ""}),
            *shown,
            piece({}, "stop"),
            data(choices=[], usage=counts(5)),
            DONE,
        ]
    )


def mistral(_number: int, request: Request) -> Sequence[Step]:
    """422 to what it does not know; usage without being asked; reasoning as parts of the content."""
    for name in ("stream_options", "max_completion_tokens"):
        if name in json.loads(request.body):
            problem = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
            return said("422 Unprocessable Entity", {"object": "error", "message": {"detail": [problem]}})
    thought = [piece({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}]})] * 3
    shown = [piece({"content": word}) for word in WORDS]
    return steps(
        [piece({"role": "assistant", "content": ""}), *thought, *shown, piece({}, "stop", usage=counts(8)), DONE]
    )


def openrouter(number: int, _request: Request) -> Sequence[Step]:
    """Comments while it waits for a provider; each tenth answer fails in mid-stream, inside a success."""
    waiting = [b": OPENROUTER PROCESSING\n\n"] * 3
    shown = [piece({"role": "assistant", "content": word}, provider="P") for word in WORDS]
    if number % 10 == 9:
        failed = {"code": 502, "message": "Provider disconnected unexpectedly"}
        return steps([*waiting, *shown[:2], piece({"content": ""}, "error", error=failed), DONE])
    return steps(
        [*waiting, *shown, piece({"content": ""}, "stop"), data(choices=[], usage=counts(5, cost=0.0001)), DONE]
    )


def groq(number: int, _request: Request) -> Sequence[Step]:
    """Usage in ``x_groq`` of the last event; each tenth request is one too many."""
    if number % 10 == 9:
        message = "Rate limit reached for model `m` in organization `org_01h` on tokens per minute (TPM): Limit 6000"
        return said("429 Too Many Requests", {"error": {"message": message, "type": "tokens"}}, "retry-after: 1\r\n")
    shown = [piece({"content": word}) for word in WORDS]
    return steps(
        [
            piece({"role": "assistant", "content": ""}, x_groq={"id": "req_1"}),
            *shown,
            piece({}, "stop", x_groq={"id": "req_1", "usage": counts(5)}),
            DONE,
        ]
    )


def deepseek(_number: int, request: Request) -> Sequence[Step]:
    """It queues requests, with comments or, before whole answers, empty lines; reasoning comes first."""
    if not json.loads(request.body)["stream"]:
        said_whole = {
            "choices": [{"message": {"content": "".join(WORDS)}, "finish_reason": "stop"}],
            "usage": counts(5),
        }
        lines = [(PAUSE_S, chunk(b"\n"))] * 5
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        return [(0.0, head), *lines, (PAUSE_S, chunk(json.dumps(said_whole).encode())), (0.0, LAST_CHUNK)]
    thought = [piece({"reasoning_content": "Hm.", "content": None})] * 3
    shown = [piece({"content": word, "reasoning_content": None}) for word in WORDS]
    usage = counts(8, completion_tokens_details={"reasoning_tokens": 3})
    return steps([b": keep-alive\n\n", b": keep-alive\n\n", *thought, *shown, piece({}, "stop", usage=usage), DONE])


@dataclass(frozen=True)
class Provider:
    """A provider, and what its users write."""

    script: Callable[[int, Request], Sequence[Step]]
    path: str
    """Of the base URL."""
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    tokens: int = 5
    chunks: int = 5
    failed: str | None = None
    """Outcome of each tenth request."""
    notes: tuple[str, ...] = ()
    """What the run says of the server."""


PROVIDERS = {
    "openai": Provider(
        openai,
        "/v1",
        ("--extra-body", '{"temperature": null}'),
        {"OPENAI_API_KEY": "sk-openai"},
        tokens=69,
        notes=("The server refuses max_tokens: answers are limited by max_completion_tokens.",),
    ),
    "azure, dated": Provider(
        azure,
        "/openai/deployments/gpt",
        ("--endpoint", "/chat/completions?api-version=2024-10-21", "--auth", "api-key", "--model", "gpt"),
        {"OPENAI_API_KEY": "azure-key"},
    ),
    "azure, whole URL": Provider(
        azure,
        "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        ("--auth", "none", "--header", "api-key=env:AZURE_KEY", "--model", "gpt"),
        {"AZURE_KEY": "azure-key"},
    ),
    "azure, v1": Provider(azure, "/openai/v1", ("--auth", "api-key"), {"OPENAI_API_KEY": "azure-key"}),
    "mistral": Provider(
        mistral,
        "/v1",
        tokens=8,
        chunks=8,
        notes=("The server refuses stream_options: it is left out, as usage comes without it.",),
    ),
    "openrouter": Provider(openrouter, "/api/v1", failed="broken_stream"),
    "groq": Provider(groq, "/openai/v1", failed="rate_limited"),
    "deepseek": Provider(deepseek, "", tokens=8, chunks=8),
    "deepseek, whole answers": Provider(deepseek, "", ("--no-stream",), chunks=0),
}

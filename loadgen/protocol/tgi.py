"""text-generation-inference's native routes, ``/generate`` and ``/generate_stream``.

One event per token; the last one carries ``generated_text`` and, with ``details``, the server's own count. Temperature
0 is not accepted: greedy is the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from loadgen.protocol.api import Delta, Product, Usage, counts_of, decode_json
from loadgen.request import Request


class _Token(msgspec.Struct):
    text: str


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: msgspec.Raw = msgspec.Raw()
    """Decoded separately, so that an invalid count does not lose the answer."""


class _Generation(msgspec.Struct):
    token: _Token | None = None
    generated_text: str | None = None
    details: _Details | None = None
    error: str | None = None


_GENERATION = msgspec.json.Decoder(_Generation)


@dataclass(frozen=True, slots=True)
class TgiApi:
    """``POST /generate`` and ``/generate_stream``."""

    produces: ClassVar[Product] = "tokens"
    stream_end: ClassVar[bytes | None] = None

    def path(self, *, stream: bool) -> str:
        """Return the native route."""
        return "/generate_stream" if stream else "/generate"

    def body(self, request: Request) -> Mapping[str, Any]:
        """Return the body. It names no model, as the server has only one; further fields are parameters."""
        parameters: dict[str, Any] = {**request.body, "max_new_tokens": request.max_tokens, "details": True}
        if request.temperature > 0:
            parameters = {"do_sample": True, "temperature": request.temperature} | parameters
        if request.stop:
            parameters["stop"] = list(request.stop)
        return {"inputs": request.text, "parameters": parameters}

    def read_event(self, data: bytes) -> Delta:
        """Read one token."""
        said = _read(data)
        if said.error is not None:
            return Delta(error=said.error)
        details = said.details
        last = said.generated_text is not None
        return Delta(
            text=said.token.text if said.token else "",
            finish_reason=details.finish_reason if details else None,
            usage=_usage(details) if details else None,
            done=last,
            tokens=1 if said.token else None,
        )

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        """Read all tokens."""
        return [self.read_event(data) for data in events]

    def has_token(self, data: bytes) -> object:
        """Tell whether a piece of a stream holds a token."""
        return b'"token":{' in data

    def has_reasoning(self, data: bytes) -> bool:  # noqa: ARG002
        """Tell whether a stream shows reasoning; here it is text like any other."""
        return True

    def text_span(self, event: bytes) -> None:
        """Return nothing: each token's event has its own id and log probability, so no two are alike."""

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer."""
        said = _read(body)
        if said.error is not None:
            return Delta(error=said.error)
        details = said.details
        return Delta(
            text=said.generated_text or "",
            finish_reason=details.finish_reason if details else None,
            usage=_usage(details) if details else None,
        )


def _read(data: bytes) -> _Generation:
    return decode_json(_GENERATION, data, "a generation")


def _usage(details: _Details) -> Usage:
    counts, rejected = counts_of({"generated_tokens": details.generated_tokens})
    return Usage(None, counts["generated_tokens"], rejected=rejected)

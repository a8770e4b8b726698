"""What an engine's way of speaking is made of. Engines' own files build on these types and on nothing else of ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec


class DialectError(Exception):
    """What the server sent is not this dialect."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to an engine, before it is put into a dialect."""

    prompt: str
    model: str
    max_tokens: int
    temperature: float
    stream: bool
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further ones of the body, as this engine knows them."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the server reports them."""

    input_tokens: int | None
    output_tokens: int | None
    """With those that the engine is known to leave out."""
    left_out: int = 0
    """So many of them."""
    cached_tokens: int | None = None
    """Input tokens whose keys and values the server had in a cache, where it says so."""


class Timings(msgspec.Struct, frozen=True, gc=False):
    """The engine's own clock for one request, ms."""

    prefill_ms: float | None
    tpot_ms: float | None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What one event of a stream, or a whole answer, says. Empty fields: it says nothing of that.

    There is one for each token, so it is of the type that costs least to make.
    """

    text: str = ""
    """All that was generated, of whatever kind: content, reasoning, tool calls. What makes an event a token's."""
    finish_reason: str | None = None
    usage: Usage | None = None
    error: str | None = None
    """An error reported inside an answer that began as a success."""
    done: bool = False
    """The dialect's own end of stream."""
    tokens: int | None = None
    """Tokens in this event, where the dialect says so."""
    timings: Timings | None = None


class Dialect(Protocol):
    """How an engine is asked, and how its answers are read. Without state and without I/O."""

    def path(self, *, stream: bool) -> str:
        """Return the route below the base URL, with its leading slash."""

    def body(self, ask: Ask) -> Mapping[str, Any]:
        """Return the JSON body of the request."""

    def read_event(self, data: bytes) -> Delta:
        """Read one server-sent event; raises DialectError if it is not of this dialect."""

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        """Read all events of a stream at once; one that is a piece of text and nothing else may be given as that text.

        Raises DialectError as :meth:`read_event` does.
        """

    def has_token(self, data: bytes) -> object:
        """Tell by its bytes whether a piece of a stream holds a token; truthy if so."""

    def count_chunks(self, body: bytes) -> int:
        """Count by their bytes the events of a stream that hold a token."""

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer that was not streamed; raises DialectError if it is not of this dialect."""

"""What an engine's way of speaking is made of. Engines' own files build on these types and on nothing else of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


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


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server reports them."""

    input_tokens: int | None
    output_tokens: int | None
    corrected: bool = False
    """The dialect put right a miscount that is known of the engine."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The engine's own clock for one request, ms."""

    prefill_ms: float | None
    tpot_ms: float | None


@dataclass(frozen=True, slots=True)
class Delta:
    """What one event of a stream, or a whole answer, says. Empty fields: it says nothing of that."""

    text: str = ""
    reasoning: str = ""
    tool: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    error: str | None = None
    """An error reported inside an answer that began as a success."""
    done: bool = False
    """The dialect's own end of stream."""
    tokens: int | None = None
    """Tokens in this event, where the dialect says so."""
    timings: Timings | None = None

    @property
    def visible(self) -> str:
        """All that was generated, of whatever kind: what makes an event a token's."""
        return self.text + self.reasoning + self.tool


class Dialect(Protocol):
    """How an engine is asked, and how its answers are read. Without state and without I/O."""

    def path(self, *, stream: bool) -> str:
        """Return the route below the base URL, with its leading slash."""

    def body(self, ask: Ask) -> Mapping[str, Any]:
        """Return the JSON body of the request."""

    def read_event(self, data: bytes) -> Delta:
        """Read one server-sent event; raises DialectError if it is not of this dialect."""

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer that was not streamed; raises DialectError if it is not of this dialect."""

"""What an API is: how a request is encoded and an answer read, and the types that both are made of."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import msgspec

from loadgen.request import Request

MOST_TOKENS = 2**31 - 1
"""Upper limit of a token count: a greater number is not a count. Sums of smaller ones are exact in every format."""

LONGEST_MS = 1e9
"""Twelve days: no engine takes longer for one request."""

_T = TypeVar("_T")


class ApiError(Exception):
    """The server's bytes do not follow this API. ``data`` holds all of them: they are redacted before they are cut."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.message = message
        self.data = data


def decode_json(decoder: msgspec.json.Decoder[_T], data: bytes | msgspec.Raw, what: str) -> _T:
    """Decode JSON from a server; raises ApiError, naming ``what`` it should have been, for any other bytes.

    msgspec raises other errors for text that is not UTF-8, for integers with thousands of digits, and for values nested
    deeper than the interpreter's stack; those are converted too.
    """
    try:
        return decoder.decode(data)
    except RecursionError:
        raise ApiError(f"not {what}: its JSON is nested too deep", bytes(data)) from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ApiError(f"not {what}: {error}", bytes(data)) from None


def counts_of(raw_counts: Mapping[str, msgspec.Raw]) -> tuple[dict[str, int | None], str | None]:
    """Read token counts by their names, from undecoded JSON, so that an invalid one does not lose the answer it is in.

    Returns the counts, None where one is missing, and a text with the rejected values: negative numbers, fractions,
    numbers beyond :data:`MOST_TOKENS`, other types. 7.0 and "7" count as 7: some servers send that.
    """
    counts: dict[str, int | None] = {}
    rejected: list[str] = []
    for name, raw in raw_counts.items():
        text = bytes(raw)
        if text.startswith(b'"') and text[1:-1].isdigit():  # some servers send numbers as text
            text = text[1:-1]
        if text in {b"", b"null"}:
            counts[name] = None
            continue
        if text.isdigit() and len(text) < len(str(MOST_TOKENS)):  # as nearly all are
            counts[name] = int(text)
            continue
        value = number_of(text, MOST_TOKENS)
        counts[name] = int(value) if value is not None and value.is_integer() else None
        if counts[name] is None:
            rejected.append(f"{name}={text.decode(errors='replace'):.40}")
    return counts, ", ".join(rejected) or None


def number_of(raw: bytes | msgspec.Raw, most: float) -> float | None:
    """Read a number from 0 to ``most`` from undecoded JSON; None where it is anything else."""
    try:
        value = msgspec.json.decode(raw, type=float)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return value if 0 <= value <= most else None


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the server reports them."""

    input_tokens: int | None
    output_tokens: int | None
    """Including tokens that this engine is known not to count."""
    left_out: int = 0
    """Number of tokens that the engine left out."""
    cached_tokens: int | None = None
    """Input tokens that were served from the prefix cache, where the server reports it."""
    reasoning_tokens: int | None = None
    """Output tokens that are reasoning, where the server reports them apart."""
    rejected: str | None = None
    """Values that cannot be counts, as the server sent them; they are treated as missing."""


class Timings(msgspec.Struct, frozen=True, gc=False):
    """The engine's own clock for one request, ms."""

    prefill_ms: float | None
    tpot_ms: float | None


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What one event of a stream, or a whole answer, contains. Empty fields: it has nothing of that kind.

    There is one per token, so it is of the type that is cheapest to create.
    """

    text: str = ""
    """All that was generated, of whatever kind: content, reasoning, tool calls. What makes an event a token's."""
    finish_reason: str | None = None
    usage: Usage | None = None
    error: str | None = None
    """An error reported inside an answer that began as a success."""
    done: bool = False
    """The API's own end of stream."""
    tokens: int | None = None
    """Tokens in this event, where the API states them."""
    timings: Timings | None = None
    items: int = 0
    """Vectors or scores in it, of an API that produces those."""
    is_whole: bool = False
    """Whether the text is all of the answer so far, not only what is new."""
    choices: int = 0
    """Answers to the one question that it tells of: more than one where ``n`` was asked for."""


Product = Literal["tokens", "vectors", "scores"]


class Api(Protocol):
    """Encodes requests to an engine and reads its answers. Without state and without I/O."""

    produces: ClassVar[Product]
    """What a successful answer has to contain."""
    stream_end: ClassVar[bytes | None]
    """Line that ends a stream, as some servers never close the connection after it; None if the API has none."""

    def path(self, *, stream: bool) -> str:
        """Return the route below the base URL, with its leading slash."""

    def body(self, request: Request) -> Mapping[str, Any]:
        """Return the JSON body of the request."""

    def read_event(self, data: bytes) -> Delta:
        """Read one server-sent event; raises ApiError if it is not of this API."""

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        """Read all events of a stream at once; one that is a piece of text and nothing else may be given as that text.

        Raises ApiError as :meth:`read_event` does.
        """

    def has_token(self, data: bytes) -> object:
        """Tell by its bytes whether a piece of a stream holds a token; truthy if so."""

    def has_reasoning(self, data: bytes) -> bool:
        """Tell by its bytes whether a stream shows reasoning, so that tokens counted for it were seen."""

    def text_span(self, event: bytes) -> tuple[int, int] | None:
        """Return where in the bytes of a token's event its text seems to lie; None if it lies in no single place."""

    def read_answer(self, body: bytes) -> Delta:
        """Read a whole answer that was not streamed; raises ApiError if it is not of this API."""

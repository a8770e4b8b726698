"""The content of a response, and when its tokens arrived."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadgen.clock import Ns
from loadgen.protocol.api import Delta, Product, Timings, Usage
from loadgen.record import Outcome, RequestRecord
from loadgen.wire.kept import LONGEST_ERROR, kept


@dataclass(slots=True)
class Completion:
    """The answer to one request: the deltas of its response, added up, and the outcome."""

    produces: Product = "tokens"
    """What it has to contain."""
    streamed: bool = False
    """Whether it came as a stream of events."""
    outcome: Outcome = Outcome.ABORTED
    error: str | None = None
    refusal: str | None = None
    """HTTP status and the server's message, of a response that is not 200."""
    retry_after_s: float | None = None
    """How long the server wants to be left alone, where it refuses and says so."""
    unreadable: str | None = None
    """Why it could not be read, where it is not of the API."""
    reported_error: str | None = None
    """Error that the server reported inside the answer."""
    ended: bool = False
    """Whether the API's own end of stream was seen."""
    finish_reason: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    items: int = 0
    """Vectors or scores in it."""
    chunk_times: list[Ns] = field(default_factory=list)
    first_width: Ns | None = None
    """Width of the interval in which the first chunk arrived: 0 where it is known exactly, None where nobody looked."""
    last_width: Ns | None = None
    """Width of the interval in which the last chunk arrived, as ``first_width``."""
    stated_tokens: list[int] = field(default_factory=list)
    """Tokens of each chunk for which the server states them."""
    first_chunk_tokens: int | None = None
    """Tokens of the first chunk, where the server states them."""
    coalesced: int = 0
    """Chunks that shared a read with a later event."""
    skipped: bool = False
    """Whether the events between the first and the last token were not decoded."""
    counted_chunks: int | None = None
    """Chunks of a stream with skipped events, where the server gave no count of tokens."""
    choices: int = 0
    """Answers to the one question, as far as the server told of them."""
    hidden_tokens: int | None = None
    """Output tokens that the server counts and its stream did not show; None where nobody can tell."""
    rejected_usage: str | None = None
    """Values in the server's usage that are not valid token counts, as sent."""
    decode_text: Callable[[], str] | None = None
    """Decodes the whole text of a stream with skipped events."""
    _texts: list[str] = field(default_factory=list)
    _counted: int | None = None
    """Tokens up to the last chunk, where the server counts as it goes."""

    @property
    def text(self) -> str:
        """All that was generated: content, reasoning, tool calls. Skipped events are decoded the first time."""
        if self.decode_text is not None:
            self._texts, self.decode_text = [self.decode_text()], None
        return _paired("".join(self._texts))

    @property
    def has_text(self) -> bool:
        """Whether anything was generated; decodes nothing."""
        return bool(self._texts)

    @property
    def chunks(self) -> int | None:
        """Events that held a token; None where they were skipped and not counted."""
        return self.counted_chunks if self.skipped else len(self.chunk_times)

    def add_text(self, text: str) -> None:
        """Add an event that is a piece of text and nothing else."""
        self._texts.append(text)
        self._counted = None

    def add(self, delta: Delta) -> bool:
        """Add what an event or a whole answer says; return whether it held a token."""
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.usage is not None:
            self.rejected_usage = self.rejected_usage or delta.usage.rejected
            if self.usage is None or delta.usage.output_tokens is not None:
                self.usage = delta.usage
        self.choices = max(self.choices, delta.choices)
        self.timings = delta.timings or self.timings
        self.reported_error = self.reported_error or delta.error
        self.ended = self.ended or delta.done
        self.items += delta.items
        text = self._new_text(delta)
        if not text:
            return False
        tokens = delta.tokens if delta.tokens is not None else self._newly_counted(delta)
        if tokens is not None:
            self.stated_tokens.append(tokens)
            if not self._texts:
                self.first_chunk_tokens = tokens
        self._texts.append(text)
        return True

    def _new_text(self, delta: Delta) -> str:
        """Return what a delta adds: some servers repeat in each event all that was said so far."""
        if not delta.is_whole or not self._texts or not delta.text:
            return delta.text
        said = "".join(self._texts)
        if said.startswith(delta.text) or delta.text.startswith(said):
            return delta.text[len(said) :]
        self._texts.clear()
        return delta.text

    def _newly_counted(self, delta: Delta) -> int | None:
        """Return a chunk's tokens where the server counts on from chunk to chunk (``continuous_usage_stats``)."""
        count = (delta.usage.output_tokens if delta.usage else None) or None  # some servers send zeros until the end
        before = self._counted if self._texts else 0
        self._counted = count
        return None if count is None or before is None else count - before

    def redact(self, secrets: Sequence[str]) -> None:
        """Remove secrets from the server's texts, and cut them to the length that a record keeps.

        The text of the answer itself is left as it is.
        """
        self.error = kept(self.error, secrets, LONGEST_ERROR)
        self.refusal = kept(self.refusal, secrets, LONGEST_ERROR)
        self.unreadable = kept(self.unreadable, secrets, LONGEST_ERROR)
        self.reported_error = kept(self.reported_error, secrets, LONGEST_ERROR)
        self.finish_reason = kept(self.finish_reason, secrets)
        self.rejected_usage = kept(self.rejected_usage, secrets)


def _paired(text: str) -> str:
    """Put halves of surrogate pairs together, which some servers send in two events; a half by itself is replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that has ended: its record, and the answer. The record is kept; the answer's text is not."""

    record: RequestRecord
    completion: Completion

"""What a response said, and when its tokens arrived."""

from dataclasses import dataclass, field

from loadgen.clock import Ns
from loadgen.protocol.api import Delta, Timings, Usage
from loadgen.record import Outcome
from loadgen.wire.kept import LONGEST_ERROR, kept

FAILED_REASONS = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})
"""Finish reasons by which a server says that it broke an answer off: ``abort`` of vLLM and SGLang, ``error`` of
OpenRouter."""


@dataclass(slots=True)
class Completion:
    """The deltas of one response, added up, and the outcome they lead to."""

    outcome: Outcome
    """As the wire saw it, until :meth:`judge` has looked at the content."""
    error: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    chunk_times: list[Ns] = field(default_factory=list)
    first_width: Ns | None = None
    """Width of the interval in which the first chunk arrived: 0 where it is known exactly, None where nobody looked."""
    last_width: Ns | None = None
    """The same of the last chunk."""
    told_tokens: list[int] = field(default_factory=list)
    """Tokens of those chunks of which the server says how many they hold."""
    first_chunk_tokens: int | None = None
    """Tokens of the first chunk, where the server says so."""
    coalesced: int = 0
    """Chunks that shared a read with a later event."""
    skipped: bool = False
    """Whether the events between the first and the last token were not looked at."""
    counted_chunks: int | None = None
    """Chunks of a stream with events that were skipped, where the server gave no count of tokens."""
    rejected_usage: str | None = None
    """Counts in the server's usage that cannot be counts, in its words."""
    _texts: list[str] = field(default_factory=list)
    _reported: str | None = None
    _done: bool = False
    _counted: int | None = None
    """Tokens up to the last chunk, where the server counts as it goes."""

    @property
    def text(self) -> str:
        """All that was generated, of whatever kind."""
        return "".join(self._texts)

    @property
    def chunks(self) -> int | None:
        """Events that held a token; None where they were skipped and not counted."""
        return self.counted_chunks if self.skipped else len(self.chunk_times)

    def take_text(self, text: str) -> None:
        """Add an event that is a piece of text and nothing else."""
        self._texts.append(text)
        self._counted = None

    def take(self, delta: Delta) -> bool:
        """Add what an event or a whole answer says; return whether there was a token in it."""
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.usage is not None:
            self.rejected_usage = self.rejected_usage or delta.usage.rejected
            if self.usage is None or delta.usage.output_tokens is not None:
                self.usage = delta.usage
        self.timings = delta.timings or self.timings
        self._reported = self._reported or delta.error
        self._done = self._done or delta.done
        if not delta.text:
            return False
        tokens = delta.tokens if delta.tokens is not None else self._newly_counted(delta)
        if tokens is not None:
            self.told_tokens.append(tokens)
            if not self._texts:
                self.first_chunk_tokens = tokens
        self._texts.append(delta.text)
        return True

    def _newly_counted(self, delta: Delta) -> int | None:
        """Return a chunk's tokens where the server counts on from chunk to chunk (``continuous_usage_stats``)."""
        count = delta.usage.output_tokens if delta.usage else None
        before = self._counted if self._texts else 0
        self._counted = count
        return None if count is None or before is None else count - before

    def redact(self, secret: str | None) -> None:
        """Make of the server's own words what may be kept: without a secret, and short."""
        self.error = kept(self.error, secret, LONGEST_ERROR)
        self.finish_reason = kept(self.finish_reason, secret)
        self.rejected_usage = kept(self.rejected_usage, secret)

    def judge(self, *, stream: bool) -> None:
        """Settle the outcome: success must be witnessed, by an end that was announced and at least one token."""
        if self.outcome not in {Outcome.OK, Outcome.BROKEN_STREAM, Outcome.IDLE_TIMEOUT}:
            return
        counted = self.usage.output_tokens if self.usage else None
        if self._reported is not None:
            self.outcome, self.error = Outcome.BROKEN_STREAM, f"error in the answer: {self._reported}"
        elif self.finish_reason is not None and self.finish_reason.lower() in FAILED_REASONS:
            self.outcome, self.error = (
                Outcome.BROKEN_STREAM,
                f"the answer ended with finish_reason {self.finish_reason!r}",
            )
        elif self.outcome is not Outcome.OK and not self._done:
            return
        elif not self._texts and not (counted and self.finish_reason):
            self.outcome, self.error = Outcome.EMPTY, "HTTP 200 without a single token"
        elif stream and not self._done and self.finish_reason is None:
            self.outcome = Outcome.BROKEN_STREAM
            self.error = "the stream ended without a finish reason and without an end mark"
        else:  # also where the connection broke, or stayed open, after the API's own end of stream
            self.outcome, self.error = Outcome.OK, None

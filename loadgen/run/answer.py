"""What a user's code gets for a request."""

from dataclasses import dataclass, field

from loadgen import metrics
from loadgen.protocol.api import Usage
from loadgen.protocol.completion import Completion
from loadgen.record import Outcome, RequestRecord
from loadgen.request import Message


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one request. The run keeps its record; the text is only here."""

    record: RequestRecord
    """As ``records.jsonl`` has it."""
    sent: tuple[Message, ...]
    """The messages of the request."""
    _completion: Completion = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the answer is complete."""
        return self.outcome is Outcome.OK

    @property
    def outcome(self) -> Outcome:
        """What became of the request."""
        return self.record.outcome

    @property
    def error(self) -> str | None:
        """What went wrong; None if the answer is complete."""
        return self.record.error

    @property
    def text(self) -> str:
        """All that was generated, reasoning and tool calls included; of a failed request, what came of it."""
        return self._completion.text

    @property
    def messages(self) -> list[dict[str, str]]:
        """The conversation so far: what was sent and the answer; if the request failed, only what was sent."""
        history = [{"role": message.role, "content": message.content} for message in self.sent]
        return [*history, {"role": "assistant", "content": self.text}] if self.ok else history

    @property
    def usage(self) -> Usage | None:
        """Token counts as the server reported them; None if it reported none."""
        return self._completion.usage

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token, ms; None if there was none, or if the answer was not streamed."""
        return metrics.ttft_ms(self.record)

    @property
    def e2e_ms(self) -> float | None:
        """Full round trip, ms; None if the request was not sent, or failed."""
        return metrics.e2e_ms(self.record)


class ChatFailed(Exception):  # noqa: N818 the request failed, the code is right
    """A request failed, and its user asked for ``raise_on_failure``. ``answer`` has the outcome."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.outcome}: {answer.error}")
        self.answer = answer

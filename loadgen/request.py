"""The request model: what is asked of an engine, and its place in the run.

A source makes requests and an API encodes them. A client sends them; each record has the fields of its request's place.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from loadgen.clock import Ns
from loadgen.record import Phase


class Message(msgspec.Struct, frozen=True):
    """One message of a chat. Encoded as JSON it is the message of a chat completion."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


Input = tuple[Message, ...] | str
"""What the model is given: the messages of a chat, or text. An API of chats sends text as one user message."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a run a request belongs. Each field is a field of the record, under the same name."""

    phase: Phase = Phase.MEASURE
    worker: int = 0
    """Number of the process that sends it."""
    step: int | None = None
    """Index of the load step; None where the run has no steps."""
    user: int | None = None
    """Number of the user, over all workers; None in the warm-up, and in the open loop, where each request is a user."""
    name: str | None = None
    """Name that the user's code gives to requests of this kind."""
    conversation: int | None = None
    turn: int | None = None
    """Index of the turn within the conversation."""
    prompt_row: int | None = None
    """Row of the data set; None where the prompt is from no data set."""
    round: int = 0
    """How many times the sample had been completed before."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request: what is asked, within which limits, its place in the run, and when it is to be sent."""

    id: str = ""
    """Sent as the header ``x-request-id``. Empty until the request is handed out."""
    input: Input
    model: str
    max_tokens: int
    temperature: float = 0.0
    stream: bool = True
    stop: tuple[str, ...] = ()
    """Texts that end an answer."""
    body: Mapping[str, Any] = {}
    """Further fields of the body; the API's own fields take precedence."""
    row_fields: Mapping[str, Any] = {}
    """Fields that the row of the data set asks for; they are applied already."""
    place: Place = Place()
    not_before: Ns | None = None
    """Earliest time to send it; its connection is opened just before. None: at once."""
    due: Ns | None = None
    """Time at which the schedule of an open loop requires it to be sent."""
    think_ns: int | None = None
    """Time from the end of the user's answer before to the call that asks for this request, ns; None for the first
    request of a user, and where nobody looked."""
    lazy: bool = False
    """Whether its stream may be drained in large reads after the first token."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The input as messages of a chat: text becomes one user message."""
        return (Message("user", self.input),) if isinstance(self.input, str) else self.input

    @property
    def text(self) -> str:
        """The input as text: the contents of the messages, one per line, without roles."""
        return self.input if isinstance(self.input, str) else "\n".join(message.content for message in self.input)

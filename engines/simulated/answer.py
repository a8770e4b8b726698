"""The state of a connection and of the answer that goes out over it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadgen.engines.simulated.batching import Sequence as Slot
from loadgen.engines.simulated.channel import Channel
from loadgen.engines.simulated.plan import FD_BITS, Plan
from loadgen.engines.simulated.request import Chat, Request, RequestReader


@dataclass(slots=True, eq=False)
class Connection:
    """One connection."""

    channel: Channel
    reader: RequestReader = field(default_factory=RequestReader)
    answer: "Answer | None" = None
    closing: bool = False
    """To be closed as soon as the client has taken what is kept for it."""


class Answer:
    """One answer. What the hot path needs is at hand, without a way through other objects."""

    __slots__ = (
        "base",
        "begun",
        "chat",
        "connection",
        "count",
        "data",
        "keep_alive",
        "key",
        "next",
        "noted",
        "offsets",
        "over",
        "plan",
        "request_id",
        "send",
        "slot",
        "times",
    )

    def __init__(self, connection: Connection, request: Request, chat: Chat, plan: Plan, begun: int) -> None:
        """Begin to answer; the connection's channel notes the times of this answer from now on."""
        self.connection = connection
        self.request_id = request.request_id
        self.keep_alive = request.keep_alive
        self.chat = chat
        self.plan = plan
        self.begun = begun
        """When the request was complete, ns on the monotonic clock."""
        self.base = begun << FD_BITS | connection.channel.fd
        """The heap's key of the arrival: with an offset of the plan it is that of a send."""
        self.times: list[int] = []
        connection.channel.times = self.times
        self.send: Callable[[bytes], None] = connection.channel.send
        self.data: Sequence[bytes] = plan.data
        self.offsets: Sequence[int] = plan.offsets
        self.count = len(plan.data)
        self.next = 0
        """Index of the send that is next."""
        self.key = 0
        """Its entry in the heap; any other entry is out of date."""
        self.slot: Slot | None = None
        """Its place in the modelled engine."""
        self.over = False
        """All is sent, but for what the client has not taken yet."""
        self.noted = False
        """It is in the journal."""

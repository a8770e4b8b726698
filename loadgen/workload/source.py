"""Sources: they decide what is asked next, request by request."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from loadgen.protocol.completion import Exchange
from loadgen.request import Input, Message, Place, Request
from loadgen.scenario import Scenario
from loadgen.workload.plan import rounds
from loadgen.workload.prompts import Prompt


class Source(Protocol):
    """Makes the requests of one process. Deterministic in seed, shard and number of shards.

    A user's requests all come from the process that has the user, so a source may keep a user's conversation.
    """

    def next(self, user: int | None) -> Request | None:
        """Return a user's next request; None when there is none left for that user.

        ``user`` is its number over all workers, None in the open loop. Identity, worker, step and timing of the
        request are filled in afterwards.
        """

    def done(self, request: Request, exchange: Exchange) -> None:
        """Note what became of a request: the next turn of a conversation may depend on its answer."""


class RequestDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of a run have in common."""

    model: str
    max_tokens: int
    temperature: float
    stream: bool
    stop: tuple[str, ...] = ()
    body: Mapping[str, Any] = {}

    def request(self, given: Input, place: Place, *, max_tokens: int | None = None) -> Request:
        """Return a request for an input; ``max_tokens`` limits its answer where it is not the run's own limit."""
        return Request(
            input=given,
            model=self.model,
            max_tokens=self.max_tokens if max_tokens is None else max_tokens,
            temperature=self.temperature,
            stream=self.stream,
            stop=self.stop,
            body=self.body,
            place=place,
        )


class SampleSource:
    """Asks the prompts of a sample, one message each; when all have been asked, again in another seeded order."""

    def __init__(
        self, sample: Sequence[Prompt], defaults: RequestDefaults, seed: int, shard: int = 0, shards: int = 1
    ) -> None:
        self._defaults = defaults
        self._rounds = rounds(sample, seed, shard, shards)

    def next(self, user: int | None) -> Request:
        """Return the request of the next prompt, whichever user asks."""
        prompt, number = next(self._rounds)
        return self._defaults.request(asked(prompt), Place(user=user, prompt_row=prompt.row, round=number))

    def done(self, request: Request, exchange: Exchange) -> None:
        """Do nothing: no prompt depends on an answer."""


def source_of(
    scenario: Scenario, sample: Sequence[Prompt], defaults: RequestDefaults, shard: int, shards: int
) -> Source:
    """Return the source of one process's requests."""
    return SampleSource(sample, defaults, scenario.seed, shard, shards)


def asked(prompt: Prompt) -> Input:
    """Return a prompt as the messages of a chat: one of the user."""
    return (Message("user", prompt.text),)

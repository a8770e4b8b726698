"""Sources: each decides which request is sent next."""

from collections.abc import Sequence
from typing import Protocol

from loadgen.protocol.completion import Exchange
from loadgen.request import Place, Request
from loadgen.scenario import Scenario
from loadgen.workload.defaults import RequestDefaults
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
        """Take the result of a request: the next turn of a conversation may depend on its answer.

        Not called for requests that were interrupted or dropped, nor for the warm-up.
        """


class SampleSource:
    """Sends each prompt; after the last it starts again, in another seeded order."""

    def __init__(
        self, sample: Sequence[Prompt], defaults: RequestDefaults, seed: int, shard: int = 0, shards: int = 1
    ) -> None:
        self._defaults = defaults
        self._rounds = rounds(sample, seed, shard, shards)

    def next(self, user: int | None) -> Request:
        """Return the request of the next prompt, whichever user asks."""
        prompt, number = next(self._rounds)
        place = Place(user=user, prompt_row=prompt.row, round=number)
        return self._defaults.request(prompt.input, place, prompt.fields)

    def done(self, request: Request, exchange: Exchange) -> None:
        """Do nothing: no prompt depends on an answer."""


def source_of(
    scenario: Scenario, sample: Sequence[Prompt], defaults: RequestDefaults, shard: int, shards: int
) -> Source:
    """Return the source of one process's requests."""
    return SampleSource(sample, defaults, scenario.seed, shard, shards)

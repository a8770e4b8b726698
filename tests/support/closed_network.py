"""Users who ask and think, and an engine with places, as records: a closed queueing network with known throughput."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from loadgen.clock import SECOND
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord

Draw = Callable[[random.Random], float]
"""Draws a time, seconds."""

SPREAD_S = 2.0
"""First requests are spread over this time, as in a plain closed loop."""


@dataclass
class Network:
    """``users`` who think and ask an engine that serves ``places`` requests at a time, first come first served."""

    users: int
    think: Draw
    service: Draw
    places: int
    seed: int
    own_s: float = 0.0
    """What the client itself takes between a user's call and the request."""
    lag_s: float = 0.0
    """By how much later than asked for the client's event loop ends a pause, and sees an answer."""
    _records: list[RequestRecord] = field(default_factory=list)

    def requests(self, number: int) -> list[RequestRecord]:
        """Return the records of so many requests; who asks later gets none."""
        rng, order, queue = random.Random(self.seed), count(), deque[int]()
        called: dict[int, float] = {}
        ended: dict[int, float] = {}
        sent: dict[int, float] = {}
        events = [(SPREAD_S * (user * 0.618 % 1), next(order), "call", user, 0.0) for user in range(self.users)]
        heapq.heapify(events)
        free, left = self.places, number
        while events:
            now, _, what, user, begun = heapq.heappop(events)
            if what == "call" and left:
                left -= 1
                called[user], sent[user] = now, now + self.own_s
                heapq.heappush(events, (sent[user], next(order), "send", user, 0.0))
            elif what == "send":
                queue.append(user)
            elif what == "end":
                free += 1
                self._record(user, called[user], sent[user], begun, now, ended.get(user))
                ended[user] = now
                heapq.heappush(events, (now + self.think(rng) + self.lag_s, next(order), "call", user, 0.0))
            while free and queue:
                free -= 1
                heapq.heappush(events, (now + self.service(rng), next(order), "end", queue.popleft(), now))
        return self._records

    def _record(self, user: int, called: float, sent: float, begun: float, end: float, before: float | None) -> None:
        """Add a record; ``begun``: when it was served, ``before``: the end of the user's answer before."""
        self._records.append(
            RequestRecord(
                request_id=f"r{len(self._records)}",
                phase=Phase.MEASURE,
                user=user,
                prompt_row=len(self._records),
                think_ns=None if before is None else _ns(called - before),
                sent_ns=_ns(sent),
                first_token_ns=_ns(begun) + 1_000,
                last_token_ns=_ns(end),
                end_ns=_ns(end),
                output_tokens=100,
                counted_by=CountedBy.USAGE,
                finish_reason="length",
                outcome=Outcome.OK,
            )
        )


def constant(seconds: float) -> Draw:
    """Draw the same time always."""
    return lambda _: seconds


def uniform(low: float, high: float) -> Draw:
    """Draw uniformly, as ``between`` of Locust does."""
    return lambda rng: rng.uniform(low, high)


def exponential(mean: float) -> Draw:
    """Draw from an exponential distribution."""
    return lambda rng: rng.expovariate(1 / mean)


def repairman(users: int, think_s: float, service_s: float, places: int) -> float:
    """Return the requests/min of exponential thinkers and services: the machine repairman model, M/M/c//N."""
    weights = [1.0]
    for k in range(1, users + 1):
        weights.append(weights[-1] * (users - k + 1) / think_s / (min(k, places) / service_s))
    served = sum(min(k, places) / service_s * weight for k, weight in enumerate(weights))
    return 60 * served / sum(weights)


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)

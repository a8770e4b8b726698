"""Servers on virtual time: a pool that serves in the order of arrival, and an engine with continuous batching.

A model is what a server is able to; it begins a server, which draws the sizes of answers from a generator of its own.
Times are integers, ns. Whoever plays a load lets a server proceed while it is due, up to and with the time at which the
next request is submitted.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.engines.simulated.batching import MS, Profile

_BLOCK = 4096
"""Sizes drawn at once."""
_RAREST = 1e-13
"""Of a lognormal's tail: what is beyond it adds nothing to a mean."""


@dataclass(slots=True, eq=False)
class Request:
    """One request, and what became of it; ``first`` and ``ended`` are set when it has ended."""

    index: int
    sent: int
    user: int = -1
    step: int | None = None
    tokens: int = 0
    first: int = 0
    """Arrival of the first token."""
    ended: int = 0


class Server(Protocol):
    """What serves."""

    @property
    def due(self) -> int | None:
        """When something happens next, if nothing is submitted before; None where nothing will."""

    def submit(self, request: Request, now: int) -> None:
        """Take a request. Times of submission do not go back, nor behind what is due."""

    def proceed(self) -> list[Request]:
        """Let happen what is due; return the requests that have ended by it."""


class Model(Protocol):
    """What a server is able to. Equal ones behave alike, so they can be keys."""

    def begin(self, rng: np.random.Generator, /) -> Server:
        """Return a server that has nothing to do."""

    def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Pool:
    """Servers that each serve one request at a time, first come, first served: G/G/c."""

    servers: int
    mean_s: float
    """Mean service time."""
    cv: float = 1.0
    """Coefficient of variation of service times, which are lognormal; 0: they are all the same."""
    exponential: bool = False
    """They are exponential instead, whatever ``cv``."""
    lead: float = 0.02
    """The first token comes so long after service began, in mean service times (at the end of a shorter service)."""
    mean_tokens: float = 100.0
    """Tokens of an answer that takes the mean service time; another has as many more or fewer as it takes longer."""

    def begin(self, rng: np.random.Generator) -> Server:
        """Return a server that has nothing to do."""
        return _Pooled(self, rng)


class _Pooled:
    """When an answer ends is known when the request is sent: nobody overtakes it."""

    def __init__(self, pool: Pool, rng: np.random.Generator) -> None:
        self._mean = pool.mean_s * SECOND
        self._lead = round(pool.lead * self._mean)
        self._tokens_per_ns = pool.mean_tokens / self._mean
        self._takes = _exponential(self._mean, rng) if pool.exponential else _lognormal(self._mean, pool.cv, rng)
        self._free = [0] * pool.servers
        self._ends: list[tuple[int, int, Request]] = []

    @property
    def due(self) -> int | None:
        return self._ends[0][0] if self._ends else None

    def submit(self, request: Request, now: int) -> None:
        takes = max(1, round(next(self._takes)))
        begins = max(self._free[0], now)
        request.tokens = max(1, round(takes * self._tokens_per_ns))
        request.first = begins + min(self._lead, takes)
        request.ended = begins + takes
        heapreplace(self._free, request.ended)
        heappush(self._ends, (request.ended, request.index, request))

    def proceed(self) -> list[Request]:
        return [heappop(self._ends)[2]]


@dataclass(frozen=True, slots=True)
class Batching:
    """An engine with continuous batching.

    It is :class:`loadgen.engines.simulated.batching.Engine` with answers of random lengths.
    """

    profile: Profile
    tokens: float
    """Mean length of answers. Lengths are rounded, at least 1, and at most what the KV cache holds."""
    cv: float = 0.0
    """Coefficient of variation of lengths, which are lognormal; 0: they are all the same."""
    prompt: int = 60
    """Tokens of each prompt."""

    def begin(self, rng: np.random.Generator) -> Server:
        """Return a server that has nothing to do."""
        return _Batch(self, rng)

    @property
    def longest(self) -> int:
        """The longest answer for which there is room."""
        return self.profile.kv_tokens - self.prompt

    @property
    def mean_tokens(self) -> float:
        """The exact mean of the lengths: rounding and their limits change it a little."""
        if not self.cv:
            return float(min(max(1, round(self.tokens)), self.longest))
        sigma, mu = _parameters(self.tokens, self.cv)
        from scipy.stats import lognorm  # takes a second to import, and few need it

        lengths = lognorm(sigma, scale=np.exp(mu))
        longest = min(self.longest, int(lengths.isf(_RAREST)))
        return 1.0 + float(lengths.sf(np.arange(2, longest + 1) - 0.5).sum())

    def lengths(self, rng: np.random.Generator) -> Iterator[int]:
        """Draw lengths of answers, without end."""
        longest = self.longest
        return (min(max(1, round(length)), longest) for length in _lognormal(self.tokens, self.cv, rng))


class _Batch:
    """The engine, from one change of its batch to the next: between two of them all steps take equally long."""

    def __init__(self, batching: Batching, rng: np.random.Generator) -> None:
        profile = self._profile = batching.profile
        self._prompt = batching.prompt
        self._prefill = int((profile.prefill_ms + profile.prefill_ms_per_token * batching.prompt) * MS)
        self._lengths = batching.lengths(rng)
        self._queue: deque[Request] = deque()
        self._ends: list[tuple[int, int, Request]] = []
        """Who is decoding, by the step that gives the last token."""
        self._steps = 0
        """Steps of decoding so far."""
        self._kv_used = 0
        self._entering: Request | None = None
        """Whose prompt is being read: nobody else gets a token meanwhile."""
        self._since = self._step = 0
        """When the steps that run began, and how long each takes."""
        self.due: int | None = None

    def submit(self, request: Request, now: int) -> None:
        request.tokens = next(self._lengths)
        self._queue.append(request)
        if self.due is None:
            self._begin(now)
        elif self._entering is None and self._has_room():  # as soon as the step has ended that runs
            self.due = self._since + ((now - self._since) // self._step + 1) * self._step

    def proceed(self) -> list[Request]:
        now = self.due
        assert now is not None
        ended = self._decode(now) if self._entering is None else self._enter(self._entering, now)
        for request in ended:
            request.ended = now
            self._kv_used -= self._prompt + request.tokens
        self._begin(now)
        return ended

    def _decode(self, now: int) -> list[Request]:
        self._steps += (now - self._since) // self._step
        ended = []
        while self._ends and self._ends[0][0] == self._steps:
            ended.append(heappop(self._ends)[2])
        return ended

    def _enter(self, request: Request, now: int) -> list[Request]:
        self._entering = None
        request.first = now
        if request.tokens == 1:
            return [request]
        heappush(self._ends, (self._steps + request.tokens - 1, request.index, request))
        return []

    def _begin(self, now: int) -> None:
        if self._queue and self._has_room():
            self._entering = self._queue.popleft()
            self._kv_used += self._prompt + self._entering.tokens
            self.due = now + self._prefill
        elif self._ends:
            self._since, self._step = now, int((self._profile.a + self._profile.b * len(self._ends)) * MS)
            self.due = now + (self._ends[0][0] - self._steps) * self._step
        else:
            self.due = None

    def _has_room(self) -> bool:
        """Whether there is room for the first in the queue."""
        needed = self._prompt + self._queue[0].tokens
        return len(self._ends) < self._profile.batch and self._kv_used + needed <= self._profile.kv_tokens


def _lognormal(mean: float, cv: float, rng: np.random.Generator) -> Iterator[float]:
    if not cv:
        while True:
            yield mean
    sigma, mu = _parameters(mean, cv)
    while True:
        yield from _floats(rng.lognormal(mu, sigma, _BLOCK))


def _exponential(mean: float, rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from _floats(rng.exponential(mean, _BLOCK))


def _floats(values: NDArray[np.float64]) -> list[float]:
    found: list[float] = values.tolist()
    return found


def _parameters(mean: float, cv: float) -> tuple[float, float]:
    """Return sigma and mu of a lognormal distribution."""
    sigma = float(np.sqrt(np.log(1 + cv**2)))
    return sigma, float(np.log(mean)) - sigma**2 / 2

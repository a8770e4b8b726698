"""Servers whose speed changes: the work they do is the integral of it, and an answer takes its work, not its time.

Whatever a server does at one speed it does at another, only later: its own time is the work that has been done.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, exp, sqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulators.servers import Model, Request, Server
from loadgen.clock import SECOND

Array = NDArray[np.float64]
Speed = Callable[[Array], Array]
"""The speed at times, s; usually 1. It is asked for one block of times after another."""

_CELL = SECOND // 100
"""The speed is the same for so long, ns."""
_BLOCK = 1024
"""Cells for which it is asked at once."""
_SLOWEST = 0.05
"""What noise, a drift or a jump leaves of the speed at least."""


@dataclass(frozen=True, slots=True)
class Wandering:
    """A model whose speed is 1 + AR(1) noise: in the long run it is as fast as without."""

    of: Model
    sd: float = 0.05
    correlation_s: float = 10.0
    """After which the noise has forgotten all but 1/e of what it was."""

    def begin(self, rng: np.random.Generator) -> Server:
        """Return a server that has nothing to do. Its answers have the same sizes as without noise."""
        noise = _Noise(self.sd, self.correlation_s, rng.spawn(1)[0])
        return _Paced(self.of.begin(rng), _Integral(noise))


@dataclass(frozen=True, slots=True)
class Disturbed:
    """A model whose speed is a function of time."""

    of: Model
    speed: Speed

    def begin(self, rng: np.random.Generator) -> Server:
        """Return a server that has nothing to do."""
        return _Paced(self.of.begin(rng), _Integral(self.speed))


@dataclass(frozen=True, slots=True)
class StartUp:
    """A model that is slower until it has given so many answers."""

    of: Model
    answers: int
    slower: float = 5.0

    def begin(self, rng: np.random.Generator) -> Server:
        """Return a server that has nothing to do."""
        return _Paced(self.of.begin(rng), _Starting(self.answers, self.slower))


@dataclass(frozen=True, slots=True)
class Drift:
    """The speed changes by a share of it, evenly over a run."""

    by: float
    seconds: float
    began_s: float = 0.0

    def __call__(self, at: Array) -> Array:
        """Return the speed."""
        return np.maximum(1 + self.by * np.clip((at - self.began_s) / self.seconds, 0, 1), _SLOWEST)


@dataclass(frozen=True, slots=True)
class Jump:
    """The speed changes by a share of it, at once and for good."""

    by: float
    at_s: float

    def __call__(self, at: Array) -> Array:
        """Return the speed."""
        return np.where(at < self.at_s, 1.0, max(1 + self.by, _SLOWEST))


@dataclass(frozen=True, slots=True)
class Oscillation:
    """The speed is a sine around 1."""

    by: float = 0.3
    period_s: float = 20.0

    def __call__(self, at: Array) -> Array:
        """Return the speed."""
        return 1 + self.by * np.sin(2 * np.pi * at / self.period_s)


@dataclass(frozen=True, slots=True)
class Stall:
    """For a while nothing happens."""

    at_s: float
    seconds: float = 2.0

    def __call__(self, at: Array) -> Array:
        """Return the speed."""
        return np.where((at >= self.at_s) & (at < self.at_s + self.seconds), 0.0, 1.0)


def mean_speed(speed: Speed, start_s: float, end_s: float) -> float:
    """Return the mean of a speed over a window: what a server does in it, as a share of what it does undisturbed."""
    done = _Integral(speed)
    return (done.work(round(end_s * SECOND)) - done.work(round(start_s * SECOND))) / ((end_s - start_s) * SECOND)


class _Pace(Protocol):
    """How work and time belong together, both in ns."""

    def work(self, at: int) -> float:
        """Return the work done by a time."""

    def time(self, work: int) -> float:
        """Return the time after which there is more of it than this."""

    def answered(self, answers: int, at: int, work: int) -> None:
        """Note that answers have ended."""


class _Integral:
    """The pace of a speed that depends on time alone."""

    def __init__(self, speed: Speed) -> None:
        self._speed = speed
        self._done = [0.0]
        """Work by the edges of cells."""

    def work(self, at: int) -> float:
        cell, rest = divmod(at, _CELL)
        while len(self._done) <= cell + 1:
            self._extend()
        return self._done[cell] + (self._done[cell + 1] - self._done[cell]) * rest / _CELL

    def time(self, work: int) -> float:
        while self._done[-1] <= work:
            self._extend()
        cell = bisect_right(self._done, work) - 1
        begun, done = self._done[cell], self._done[cell + 1]
        return (cell + (work - begun) / (done - begun)) * _CELL

    def answered(self, answers: int, at: int, work: int) -> None:
        pass

    def _extend(self) -> None:
        known = len(self._done) - 1
        middles = (np.arange(known, known + _BLOCK, dtype=np.float64) + 0.5) * (_CELL / SECOND)
        self._done += (self._done[-1] + np.cumsum(self._speed(middles)) * _CELL).tolist()


class _Noise:
    """1 + AR(1) noise, in its steady state from the first value."""

    def __init__(self, sd: float, correlation_s: float, rng: np.random.Generator) -> None:
        self._kept = exp(-_CELL / SECOND / correlation_s)
        self._sd = sd
        self._rng = rng
        self._latest = sd * float(rng.standard_normal())

    def __call__(self, at: Array) -> Array:
        from scipy.signal import lfilter  # takes a second to import, and few need it

        news = self._rng.standard_normal(len(at)) * (self._sd * sqrt(1 - self._kept**2))
        noise, _ = lfilter([1.0], [1.0, -self._kept], news, zi=[self._kept * self._latest])
        self._latest = float(noise[-1])
        return np.maximum(1 + np.asarray(noise, dtype=np.float64), _SLOWEST)


class _Starting:
    """The pace of a server that is slower until it has given so many answers."""

    def __init__(self, answers: int, slower: float) -> None:
        self._left = answers
        self._slower = slower
        self._turn: tuple[int, int] | None = None
        """When it became as fast as it is, and the work done by then."""

    def work(self, at: int) -> float:
        if self._turn is None or at < self._turn[0]:
            return at / self._slower
        return self._turn[1] + float(at - self._turn[0])

    def time(self, work: int) -> float:
        if self._turn is None or work < self._turn[1]:
            return work * self._slower
        return self._turn[0] + float(work - self._turn[1])

    def answered(self, answers: int, at: int, work: int) -> None:
        self._left -= answers
        if self._left <= 0 and self._turn is None:
            self._turn = (at, work)


class _Paced:
    """A server at a pace. Its own clock shows work; times are rounded up, so that nothing happens too early."""

    def __init__(self, server: Server, pace: _Pace) -> None:
        self._server = server
        self._pace = pace
        self._work = 0
        """On the server's clock, when it was last told something."""
        self.due: int | None = None

    def submit(self, request: Request, now: int) -> None:
        work, due = ceil(self._pace.work(now)), self._server.due
        if due is not None:  # it is not yet: at most rounding makes it so
            work = min(work, due - 1)
        self._work = max(self._work, work)
        self._server.submit(request, self._work)
        self._look_ahead(now)

    def proceed(self) -> list[Request]:
        now, due = self.due, self._server.due
        assert now is not None
        assert due is not None
        self._work = due
        ended = self._server.proceed()
        for request in ended:
            request.first = min(max(request.sent, ceil(self._pace.time(request.first))), now)
            request.ended = now
        self._pace.answered(len(ended), now, due)
        self._look_ahead(now)
        return ended

    def _look_ahead(self, now: int) -> None:
        due = self._server.due
        self.due = None if due is None else max(now, ceil(self._pace.time(due)))

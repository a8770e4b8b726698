"""Loads on virtual time: users who wait for their answers, and arrivals that wait for nothing."""

from heapq import heapify, heappop

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulators.servers import Model, Request
from loadgen.clock import SECOND
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord

Times = NDArray[np.int64]

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, are spread evenly however many there are: the turns of users, as in a run."""


class ClosedLoop:
    """Users on one server, who each send again at once when their answer has ended, from one step to the next."""

    def __init__(self, model: Model, rng: np.random.Generator, *, began_s: float = 0.0) -> None:
        self._server = model.begin(rng)
        self._now = _ns(began_s)
        self._step = -1
        self._users = 0
        self._starts: list[tuple[int, int]] = []
        """Of users who have sent nothing yet: when they do."""
        self._present: set[int] = set()
        self._in_flight: dict[int, Request] = {}
        """In the order in which they were sent."""
        self._ended: list[Request] = []
        """Not returned yet."""
        self._sent = 0

    def set_users(self, users: int, at_s: float, spread_s: float) -> None:
        """Go on until a time, and begin a step: from then on there are so many users.

        The first requests of new ones are spread over a time; of those who are too many each leaves with its answer.
        """
        self._advance(_ns(at_s))
        self._step += 1
        self._users = users
        for user in range(users):
            if user not in self._present:
                self._present.add(user)
                self._starts.append((self._now + _ns(user * _GOLDEN % 1.0 * spread_s), user))
        heapify(self._starts)

    def run_until(self, at_s: float) -> list[RequestRecord]:
        """Go on until a time; return the requests that have ended, in that order, since the last call."""
        self._advance(_ns(at_s))
        return self._take_ended()

    def drain(self) -> list[RequestRecord]:
        """Send nothing more; go on until everything has ended, and return it."""
        self._users = 0
        while self._in_flight:
            assert self._server.due is not None
            self._advance(self._server.due)
        return self._take_ended()

    @property
    def now_ns(self) -> int:
        """The time."""
        return self._now

    @property
    def settled_ns(self) -> int:
        """Every request sent before it has ended, and has been returned."""
        oldest = next(iter(self._in_flight.values()), None)
        return min([r.sent for r in (*self._ended, oldest) if r is not None], default=self._now)

    def _advance(self, until: int) -> None:
        if until < self._now:
            raise ValueError(f"time does not go back: {until} ns, it was {self._now} ns")
        server, starts = self._server, self._starts
        while True:
            due, start = server.due, starts[0][0] if starts else None
            if due is not None and due <= until and (start is None or due <= start):
                self._proceed(due)
            elif start is not None and start <= until:
                self._send(heappop(starts)[1], start)
            else:
                break
        self._now = until

    def _proceed(self, now: int) -> None:
        ended = self._server.proceed()
        for request in ended:
            del self._in_flight[request.index]
        self._ended += ended
        for request in ended:
            self._send(request.user, now)

    def _send(self, user: int, now: int) -> None:
        """Send the next request of a user, who leaves if there are to be fewer."""
        if user >= self._users:
            self._present.remove(user)
            return
        request = Request(self._sent, now, user, self._step)
        self._sent += 1
        self._in_flight[request.index] = request
        self._server.submit(request, now)

    def _take_ended(self) -> list[RequestRecord]:
        ended, self._ended = self._ended, []
        return [_record(request) for request in ended]


def closed_loop(
    model: Model, users: int, seconds: float, rng: np.random.Generator, *, began: float = 0.0, spread_s: float = 0.0
) -> list[RequestRecord]:
    """Return the requests of one step that have ended in time, in the order of their ends."""
    loop = ClosedLoop(model, rng, began_s=began)
    loop.set_users(users, began, spread_s)
    return loop.run_until(began + seconds)


def open_loop(model: Model, times: Times, rng: np.random.Generator, *, step: int | None = None) -> list[RequestRecord]:
    """Send a request at each of some times (ns, ascending); return all when they have ended, in the order of ends."""
    server, ended = model.begin(rng), []
    for index, at in enumerate(times.tolist()):
        while (due := server.due) is not None and due <= at:
            ended += server.proceed()
        server.submit(Request(index, at, step=step), at)
    while server.due is not None:
        ended += server.proceed()
    return [_record(request, scheduled=True) for request in ended]


def constant(rate: float, seconds: float) -> Times:
    """Return evenly spaced times."""
    return (np.arange(int(rate * seconds)) * (SECOND / rate)).astype(np.int64)


def poisson(rate: float, seconds: float, rng: np.random.Generator) -> Times:
    """Return times with exponential gaps."""
    return gamma(rate, 1.0, seconds, rng)


def gamma(rate: float, cv: float, seconds: float, rng: np.random.Generator) -> Times:
    """Return times with gamma gaps of a coefficient of variation."""
    enough = rate * seconds + 10 * (1 + cv) * np.sqrt(rate * seconds) + 100 * (1 + cv**2)
    times = np.cumsum(rng.gamma(cv**-2, cv**2 * SECOND / rate, int(enough)))
    return times[times < seconds * SECOND].astype(np.int64)


def _record(request: Request, *, scheduled: bool = False) -> RequestRecord:
    """Return a request as a run would have noted it, all its times known exactly."""
    return RequestRecord(
        request_id=f"{request.index:08d}",
        phase=Phase.MEASURE,
        step=request.step,
        prompt_row=request.index,
        scheduled_ns=request.sent if scheduled else None,
        sent_ns=request.sent,
        first_byte_ns=request.first,
        first_token_ns=request.first,
        last_token_ns=request.ended,
        end_ns=request.ended,
        first_token_interval_ns=0,
        last_token_interval_ns=0,
        end_interval_ns=0,
        output_tokens=request.tokens,
        counted_by=CountedBy.USAGE,
        usage_tokens=request.tokens,
        first_chunk_tokens=1,
        chunks=request.tokens,
        outcome=Outcome.OK,
        http_status=200,
    )


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)

"""Hands out the requests of one process: which one a user sends next, when it may send it, and when there are no more.

A :class:`~loadgen.workload.source.Source` decides what is asked. This module adds what only the running process knows:
the request's id, its worker and step, its time, and whether its stream is drained lazily. It also spreads the first
requests of new users over time, so that an engine does not get all of them at once.
"""

from collections.abc import Iterator
from typing import Protocol

from msgspec.structs import replace

from loadgen.clock import MS, SECOND, Ns
from loadgen.protocol.completion import Exchange
from loadgen.record import Phase
from loadgen.request import Place, Request
from loadgen.run.messages import RunAssignment, StartStep
from loadgen.run.recorder import Recorder
from loadgen.run.runtime import Runtime
from loadgen.scenario import Scenario
from loadgen.workload.arrivals import arrival_times, shard
from loadgen.workload.prompts import Prompt
from loadgen.workload.source import RequestDefaults, input_of, source_of

OPEN_AHEAD_MS = 50
"""The connection of a request with a due time is opened this long before it, so that connecting does not delay it."""

_GOLDEN = 0.6180339887498949
"""The fractional parts of its multiples fill the span from 0 to 1 evenly, however many there are."""

_LONGEST_SLEEP_S = 0.5
"""A sleeping user looks this often whether the run is being ended."""


class SourceListener(Protocol):
    """Learns when all is done."""

    def share_done(self) -> None:
        """Take notice that all planned requests have been made and recorded."""


class RequestSource:
    """Hands requests to the users of one process.

    Users wait in it: before the first step has started, for their turn to send a first request, and at the end until
    the run is over, because Locust stumbles over users that end while it stops them.
    """

    def __init__(
        self,
        assignment: RunAssignment,
        scenario: Scenario,
        recorder: Recorder,
        listener: SourceListener,
        runtime: Runtime,
    ) -> None:
        self.started = 0
        """Requests handed out, including the warm-up."""
        self.finishing = False
        """Whether no more are handed out."""
        self._assignment, self._scenario = assignment, scenario
        self._recorder, self._listener, self._runtime = recorder, listener, runtime
        self._defaults = RequestDefaults(
            model=assignment.model,
            max_tokens=scenario.max_tokens,
            temperature=scenario.temperature,
            stream=scenario.stream,
            stop=assignment.stop,
        )
        shard_number, shards = assignment.shard, assignment.shards
        self._source = source_of(scenario, assignment.sample, self._defaults, shard_number, shards)
        planned = assignment.planned
        self._quota = None if planned is None else len(range(shard_number, planned, shards))
        self._measured = 0
        self._step: StartStep | None = None
        self._step_started = runtime.event()
        self._released = runtime.event()
        self._users = 0
        self._users_without_more: set[int] = set()
        self._first_at: dict[int, Ns] = {}

    @property
    def is_exhausted(self) -> bool:
        """Whether all planned measured requests have been made and recorded."""
        return self._quota is not None and self._recorder.measured >= self._quota

    def start_step(self, step: StartStep) -> None:
        """Let users send requests, as part of a step."""
        self._step = step
        self._step_started.set()

    def register_user(self) -> int:
        """Return the number of a new user: 0, 1, ..."""
        self._users += 1
        return self._users - 1

    def next_request(self, user: int) -> Request | None:
        """Return a user's next request, None once the run is over.

        Waits until the load has started, for the user's turn before its first request, and for the end of the run once
        there is nothing left to send.
        """
        self._step_started.wait()
        not_before = self._first_time(user)
        if self._quota is not None and self._measured >= self._quota:
            self._released.wait()
        if self._is_finishing():
            self._released.wait()
            return None
        assignment = self._assignment
        request = self._source.next(user * assignment.shards + assignment.shard)
        if request is None:
            self._users_without_more.add(user)
            if len(self._users_without_more) >= self._users:
                self.end_of_schedule()
            self._released.wait()
            return None
        return self._hand_out(request, not_before=not_before)

    def arrivals(self) -> Iterator[Request]:
        """Yield the requests of this process's share of an open loop's schedule, each just before it is due.

        Waits until the load has started. A request yielded has to be sent or dropped.
        """
        self._step_started.wait()
        step, assignment = self._step, self._assignment
        if step is None:  # the run was ended during the warm-up
            return
        assert step.epoch_ns is not None
        for index, offset in shard(arrival_times(self._scenario), assignment.shard, assignment.shards):
            ends = assignment.planned is not None and index >= assignment.planned
            if ends or (step.horizon_s is not None and offset > step.horizon_s * SECOND):
                return
            due = Ns(step.epoch_ns + offset)
            self._sleep_until(Ns(due - OPEN_AHEAD_MS * MS))
            if self._is_finishing():
                return
            request = self._source.next(None)
            if request is None:
                return
            yield self._hand_out(request, not_before=due, due=due)

    def end_of_schedule(self) -> None:
        """Note that the source or the schedule has ended: what has been handed out is all there is."""
        self._quota = self._measured
        if self.is_exhausted:
            self._listener.share_done()

    def warm_up_request(self, prompt: Prompt) -> Request:
        """Return a request of the warm-up, to be sent at once."""
        place = Place(phase=Phase.WARMUP, prompt_row=prompt.row)
        return self._hand_out(self._defaults.request(input_of(prompt), place))

    def take_result(self, request: Request, exchange: Exchange) -> None:
        """Pass the result of a request on to the source."""
        self._source.done(request, exchange)

    def finish(self) -> None:
        """Hand out no more requests; those in flight go on."""
        self.finishing = True
        self._step_started.set()

    def release(self) -> None:
        """Let the users end that wait for the end of the run."""
        self.finish()
        self._released.set()

    def wait_for_release(self) -> None:
        """Wait for the end of the run."""
        self._released.wait()

    def _is_finishing(self) -> bool:
        return self.finishing

    def _first_time(self, user: int) -> Ns | None:
        """Wait for a user's turn, before its first request only; return when that may be sent."""
        if user in self._first_at or self._step is None:
            return None
        assignment = self._assignment
        turn = (user * assignment.shards + assignment.shard) * _GOLDEN % 1.0
        delay = OPEN_AHEAD_MS * MS + int(turn * self._step.spread_s * SECOND)
        at = self._first_at[user] = Ns(self._runtime.now() + delay)
        self._sleep_until(Ns(at - OPEN_AHEAD_MS * MS))
        return at

    def _sleep_until(self, at: Ns) -> None:
        while not self.finishing and (left := at - self._runtime.now()) > 0:
            self._runtime.sleep(min(left / SECOND, _LONGEST_SLEEP_S))

    def _hand_out(self, request: Request, *, not_before: Ns | None = None, due: Ns | None = None) -> Request:
        """Return a source's request with its id, worker, step and timing; from now on it is in flight."""
        self.started += 1
        is_measured = request.place.phase is Phase.MEASURE
        self._measured += is_measured
        worker = self._assignment.number
        request = replace(
            request,
            id=f"{self._assignment.run_id}-{worker}-{self.started:06d}",
            place=replace(request.place, worker=worker, step=None if self._step is None else self._step.step),
            not_before=not_before,
            due=due,
            lazy=request.stream and is_measured and self._is_lazy(),
        )
        self._recorder.expect(request)
        return request

    def _is_lazy(self) -> bool:
        """Whether the next stream is drained lazily.

        Every n-th is read token by token, by its number and not by the moment: sampling that followed the load would
        favour quiet moments.
        """
        assert self._step is not None
        share, n = self._step.eager_share, self._measured
        return int(n * share) == int((n - 1) * share)

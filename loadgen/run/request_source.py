"""Hands out the requests of one process: who may send one, when, and when there are no more.

A user asks for a :class:`Permit` before each request. Permits of the warm-up come first, as many as this process has to
make; then users wait until the load starts. The permits of the measured phase are limited by the planned number of
requests. A permit that is not used is given back.

What is asked is decided by the user's code, or by a :class:`~loadgen.workload.source.Source`. This module adds what
only the running process knows: the request's id, its worker and step, its time, and whether its stream is drained
lazily. It also spreads the first requests of new users over time, so that an engine does not get all of them at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
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
from loadgen.workload.defaults import RequestDefaults, UserClass
from loadgen.workload.prompts import Prompt
from loadgen.workload.source import source_of

OPEN_AHEAD_MS = 50
"""The connection of a request with a due time is opened this long before it, so that connecting does not delay it."""

_GOLDEN = 0.6180339887498949
"""The fractional parts of its multiples fill the span from 0 to 1 evenly, however many there are."""

_LONGEST_SLEEP_S = 0.5
"""A sleeping user looks this often whether the run is being ended."""


class SourceListener(Protocol):
    """Learns when all is done."""

    def share_done(self) -> None:
        """Take notice that all planned requests, or all of the warm-up, have been made and recorded."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Allows a user to send one request."""

    phase: Phase
    number: int
    """Of this process's permits of the phase: 1, 2, ..."""
    user: int | None
    """Number of the user, over all workers; None in the open loop."""
    not_before: Ns | None = None
    """Earliest time to send the request; None: at once."""


class RequestSource:
    """Hands requests to the users of one process.

    Users wait in it: before the warm-up and before the load has started, for their turn to send a first request, and at
    the end until the run is over, because Locust stumbles over users that end while it stops them.
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
        self._defaults = RequestDefaults.of_run(scenario, assignment.model, assignment.stop)
        shard_number, shards = assignment.shard, assignment.shards
        self._source = source_of(scenario, assignment.sample, self._defaults, shard_number, shards)
        self._warm_up = _warm_up_share(assignment)
        self._warm_up_prompts = cycle(self._warm_up)
        self._warmed = 0
        """Permits of the warm-up that were given."""
        planned = assignment.planned
        self._quota = None if planned is None else len(range(shard_number, planned, shards))
        self._measured = 0
        """Permits of the measured phase that were given."""
        self._step: StartStep | None = None
        self._warm_up_started = runtime.event()
        self._step_started = runtime.event()
        self._released = runtime.event()
        self._is_released = self._is_schedule_taken = False
        self._changed = runtime.event()
        """Set, and replaced, when waiting users have to look again: a permit was given back, or the run is over."""
        self._users = 0
        self._users_without_more: set[int] = set()
        self._first_at: dict[int, Ns] = {}

    @property
    def is_exhausted(self) -> bool:
        """Whether all planned measured requests have been made and recorded."""
        return self._quota is not None and self._recorder.measured >= self._quota

    @property
    def is_warmed_up(self) -> bool:
        """Whether all requests of the warm-up that users make here have been made and recorded."""
        return self._recorder.warmed >= len(self._warm_up)

    @property
    def is_scheduled(self) -> bool:
        """Whether requests follow the schedule of an open loop."""
        return self._scenario.rate is not None

    def start_warm_up(self) -> None:
        """Let users send the requests of the warm-up."""
        self._warm_up_started.set()

    def start_step(self, step: StartStep) -> None:
        """Let users send measured requests, as part of a step."""
        self._step = step
        self._warm_up_started.set()
        self._step_started.set()

    def register_user(self) -> int:
        """Return the number of a new user: 0, 1, ..."""
        self._users += 1
        return self._users - 1

    def admit(self, user: int) -> Permit | None:
        """Wait until a user may send a request; return its permit, None once the run is over.

        ``user`` is a number that :meth:`register_user` has returned.
        """
        self._warm_up_started.wait()
        place = user * self._assignment.shards + self._assignment.shard
        if self._warmed < len(self._warm_up) and self._step is None and not self.finishing:
            self._warmed += 1
            return Permit(Phase.WARMUP, self._warmed, place)
        self._step_started.wait()
        not_before = self._first_time(user)
        while self._quota is not None and self._measured >= self._quota and not self._is_released:
            self._changed.wait()
        if self._is_finishing():
            self._released.wait()
            return None
        self._measured += 1
        return Permit(Phase.MEASURE, self._measured, place, not_before)

    def give_back(self, permit: Permit) -> None:
        """Take back a permit that was not used, so that another user gets it."""
        if permit.phase is Phase.WARMUP:
            self._warmed -= 1
        else:
            self._measured -= 1
        self._wake_waiting()

    def next_request(self, user: int, permit: Permit) -> Request | None:
        """Return what a user asks next by the source, or by the prompts of the warm-up.

        If the source has nothing left for the user, takes the permit back, waits for the end of the run, and returns
        None.
        """
        if permit.phase is Phase.WARMUP:
            return self._warm_up_request(next(self._warm_up_prompts))
        request = self._source.next(permit.user)
        if request is None:
            self.give_back(permit)
            self._users_without_more.add(user)
            if len(self._users_without_more) >= self._users:
                self.end_of_schedule()
            self._released.wait()
        return request

    def hand_out(self, request: Request, permit: Permit) -> Request:
        """Return a request with its id, worker, step and timing; from now on it is in flight."""
        place = replace(request.place, phase=permit.phase, user=permit.user)
        request = replace(request, place=place, not_before=permit.not_before)
        return self._hand_out(request, permit.number)

    def defaults_of(self, user_class: str) -> RequestDefaults:
        """Return the fields that all requests of a user class share."""
        return self._assignment.user_classes.get(user_class, UserClass()).applied_to(self._defaults)

    def arrivals(self) -> Iterator[Request]:
        """Yield the requests of this process's share of an open loop's schedule, each just before it is due.

        Waits until the load has started. A request yielded has to be sent or dropped. The schedule belongs to whoever
        asks for it first; others get nothing.
        """
        if self._is_schedule_taken:
            return
        self._is_schedule_taken = True
        yield from self._scheduled()
        self.end_of_schedule()

    def end_of_schedule(self) -> None:
        """Note that the source or the schedule has ended: what has been handed out is all there is."""
        self._quota = self._measured
        if self.is_exhausted:
            self._listener.share_done()

    def warm_up_request(self, prompt: Prompt) -> Request:
        """Return a request of a warm-up that no user makes, to be sent at once; from now on it is in flight."""
        return self._hand_out(self._warm_up_request(prompt), 0)

    def take_result(self, request: Request, exchange: Exchange) -> None:
        """Pass the result of a request on to the source."""
        self._source.done(request, exchange)

    def finish(self) -> None:
        """Hand out no more requests; those in flight go on."""
        self.finishing = True
        self._warm_up_started.set()
        self._step_started.set()

    def release(self) -> None:
        """Let the users end that wait for the end of the run."""
        self.finish()
        self._is_released = True
        self._released.set()
        self._wake_waiting()

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

    def _scheduled(self) -> Iterator[Request]:
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
            self._measured += 1
            yield self._hand_out(replace(request, not_before=due, due=due), self._measured)

    def _wake_waiting(self) -> None:
        changed, self._changed = self._changed, self._runtime.event()
        changed.set()

    def _warm_up_request(self, prompt: Prompt) -> Request:
        return self._defaults.request(prompt.input, Place(phase=Phase.WARMUP, prompt_row=prompt.row), prompt.fields)

    def _hand_out(self, request: Request, number: int) -> Request:
        """Return a request with its id, worker, step and timing; ``number`` is its permit's."""
        self.started += 1
        is_measured = request.place.phase is Phase.MEASURE
        worker = self._assignment.number
        request = replace(
            request,
            id=f"{self._assignment.run_id}-{worker}-{self.started:06d}",
            place=replace(request.place, worker=worker, step=None if self._step is None else self._step.step),
            lazy=request.stream and is_measured and self._is_lazy(number),
        )
        self._recorder.expect(request)
        return request

    def _is_lazy(self, number: int) -> bool:
        """Whether the stream of a measured request is drained lazily.

        Every n-th is read token by token, by its number and not by the moment: sampling that followed the load would
        favour quiet moments.
        """
        assert self._step is not None
        share = self._step.eager_share
        return int(number * share) == int((number - 1) * share)


def _warm_up_share(assignment: RunAssignment) -> Sequence[Prompt]:
    """Return the prompts of one process's share of the warm-up.

    Where some processes have no user yet, nobody knows which: each may make all of it, and the controller ends it.
    """
    if assignment.users < assignment.shards:
        return assignment.warm_up
    return assignment.warm_up[assignment.shard :: assignment.shards]

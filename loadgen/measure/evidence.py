"""What the checks of the verdict look at: everything of a run that has ended, or counts of one that goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadgen.measure import thinking
from loadgen.measure.envelope import Envelope, StreamLoad
from loadgen.measure.facts import Arrivals, EngineCounters, StepFacts, UserCode, WorkerFacts
from loadgen.measure.load import Window, full_window
from loadgen.measure.records import Records
from loadgen.record import Outcome, Phase


@dataclass(frozen=True)
class Evidence:
    """What the checks look at."""

    records: Records
    """All records, those of the warm-up included; a list of them is put into columns."""
    started: int | None
    """Requests that the instrument says it started; None if it did not live to say."""
    planned: int | None
    """Measured requests that were to be made; None if the run was bounded by time."""
    ended: str | None
    """``completed``, ``run-time`` or ``interrupted``; None if the run broke off."""
    users: int
    """Users that were asked for when the run began; of a sweep the most."""
    users_changed: bool
    """Whether the number of users was changed during the run, so that ``users`` describes no part of it."""
    shaped: bool
    """Whether it was a LoadTestShape that changed the number, too often for figures of each stage."""
    max_tokens: int
    loop_lag_p99_ms: float | None
    """Of the worst process, as the next two."""
    ignore_eos: bool = False
    """Whether no answer was to end before that."""
    stream: bool = True
    """Whether answers were asked for as streams."""
    same_text: Mapping[int, int] = field(default_factory=dict)
    """Rows of the sample whose prompt has the same text as that of an earlier row: which one."""
    cpu_share: float | None = None
    """CPU time over wall time."""
    gc_longest_ms: float | None = None
    load: StreamLoad | None = None
    """None where it is not of the kind that is calibrated."""
    calibration: Envelope | None = None
    no_calibration: str | None = None
    """Why there is none."""
    ended_why: str | None = None
    """What ended the load early, where that was neither time nor somebody's wish."""
    sigint: bool = False
    """Whether SIGINT, which Ctrl-C sends, ended the run."""
    user_code: UserCode | None = None
    """The tasks of all users; None where nobody counted them."""
    workers: Sequence[WorkerFacts] = ()
    steps: Sequence[StepFacts] = ()
    """Of a sweep."""
    arrivals: Arrivals | None = None
    """Of an open loop, with the window in which it is looked at."""
    schedule: NDArray[np.int64] | None = None
    """When an open loop's requests were to be sent, drawn again from its seed, on the clock of worker 0, ns; None until
    it had begun. It reaches at least to the last of its records."""
    counters: tuple[EngineCounters, EngineCounters] | None = None
    """The engine's own, before the first request and after the last."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "records", Records.of(self.records))

    @property
    def is_one_user(self) -> bool:
        """Whether one user of a closed loop made all requests, one after another."""
        return self.users == 1 and not self.users_changed and not self.steps and self.arrivals is None

    @property
    def clock_tolerance_ns(self) -> int:
        """How far times of different processes may be apart that are the same."""
        return 1 + 2 * max((w.clock_uncertainty_ns for w in self.workers), default=0)

    @cached_property
    def measured(self) -> Records:
        """Records of the measured phase."""
        return self.records.where(self.records.equal("phase", Phase.MEASURE))

    @cached_property
    def ok(self) -> Records:
        """Complete answers of the measured phase."""
        return self.measured.where(self.measured.equal("outcome", Outcome.OK))

    @cached_property
    def lateness_ns(self) -> int:
        """How much of a pause between two requests of a user the event loop's lateness may explain, ns."""
        return thinking.lateness_ns(self.loop_lag_p99_ms)

    @cached_property
    def thinks(self) -> bool:
        """Whether the users of a closed loop think between their requests."""
        return self.arrivals is None and thinking.has_think_time(self.measured, self.lateness_ns)

    @cached_property
    def loads(self) -> list[StepFacts]:
        """The loads of a closed loop, each with the window in which it counts; a plain closed loop is one step.

        Of users who think, only whole cycles count. Empty for an open loop, and where the number of users was changed.
        """
        if self.arrivals is not None or self.users_changed:
            return []
        if self.steps:
            return [self._in_whole_cycles(step) for step in self.steps] if self.thinks else list(self.steps)
        window = full_window(self.measured, self.users)
        if self.thinks:
            window = self._whole_cycles_of_all()
        span = None if window is None else (window.start, window.end)
        return [StepFacts(number=0, concurrency=self.users, began_ns=0, window_ns=span, ended_by="step-time")]

    def _whole_cycles_of_all(self) -> Window | None:
        """Return the window in which all users of a plain closed loop ask and think."""
        users = thinking.users_of(self.measured)
        return thinking.whole_cycles(self.measured, users) if len(users) >= self.users else None

    def _in_whole_cycles(self, step: StepFacts) -> StepFacts:
        """Return a step with the part of its window in which the cycles of all its users are known."""
        users = thinking.users_of(self.measured.where(self.measured.ints("step") == step.number))
        known = thinking.whole_cycles(self.measured, users)
        span = None
        if step.window_ns is not None and known is not None:
            span = max(step.window_ns[0], known.start), min(step.window_ns[1], known.end)
        return msgspec.structs.replace(step, window_ns=span if span is not None and span[1] > span[0] else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SoFar:
    """What the checks look at while a run goes on."""

    ended: int
    """Measured requests that have ended."""
    failed: int
    """Failed ones among them; aborted and dropped requests are not failures."""
    lost: Sequence[str]
    """Workers that were lost, each with what became of it."""
    loop_lag_p99_ms: float | None
    """Of the worst process."""
    cpu_share: float | None
    """CPU time over wall time of the busiest process."""
    chunks: int
    """Chunks of which is known whether they shared a read with a later one."""
    shared_chunks: int
    """Chunks that did."""
    steps: int
    """Steps of a sweep that have ended."""
    unsteady: Sequence[int]
    """Users of those steps that were not steady."""

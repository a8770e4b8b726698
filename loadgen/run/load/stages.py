"""A closed loop whose number of users a LoadTestShape changes: each time with a constant number is measured for itself.

The shape belongs to the locustfile, and nobody knows beforehand what it will do. So the model only notes when the
number of users was constant; what such a stage has shown is judged when the run has been drained, as requests that were
in flight at its end belong to it, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.clock import SECOND, Ns
from loadgen.measure.facts import StepFacts
from loadgen.measure.watch import StepWatch
from loadgen.record import RequestRecord
from loadgen.results.manifest import Kind
from loadgen.run.load.closed_loop import ClosedLoop
from loadgen.run.load.model import ConstantUsers, RunningLoad
from loadgen.run.load.sweep import note_window
from loadgen.steps import parse_precision

SHORTEST_STAGE_S = 5.0
"""A shorter stage is a part of a ramp, and has no figures."""

MOST_STAGES = 30
"""A shape with more of them is a curve; its run has figures over time only."""

LONGEST_SPREAD_S = 2.0
"""First requests of new users are spread over one round trip, at most over this time."""


@dataclass(frozen=True, slots=True)
class _Stage:
    users: int
    began: Ns
    full: Ns
    """When all users had sent a request."""


class Stages(ClosedLoop):
    """The number of users is that of a LoadTestShape."""

    title = "closed loop with a LoadTestShape"
    uses = (*ClosedLoop.uses, "precision")

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._ended: list[tuple[_Stage, Ns]] = []
        self._records: list[RequestRecord] = []
        self._changes = 0
        """How often the number of users began to change, or became constant."""

    @classmethod
    def check_processes(cls, users: Sequence[int]) -> None:
        """Allow any number: the shape may give each process a user later."""
        del users

    @property
    def kind(self) -> Kind:
        """It measures throughput, stage by stage."""
        return "throughput"

    def planned_requests(self, run_time_s: float | None) -> int | None:
        """Return ``--requests``; without it the shape ends the run."""
        del run_time_s
        return self.scenario.requests

    def own_end(self, run_time_s: float | None) -> str:
        """Return that the shape ends, or ``--requests`` before it."""
        by_requests = super().own_end(run_time_s)
        return "when its LoadTestShape ends" + (f", or {by_requests}" if by_requests else "")

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Take requests that have ended; their times are on the controller's clock."""
        self._records += records

    def play(self, load: RunningLoad) -> None:
        """Note when the number of users is constant, until the shape ends or all planned requests are made."""
        load.follow(self)
        stage: _Stage | None = None
        constant: ConstantUsers | None = None
        try:
            while not load.all_done:
                if load.constant_users != constant:
                    self._changes += 1
                    self._end(stage, load.users_changed_ns)
                    constant = load.constant_users
                    stage = None if constant is None else self._begin(load, constant)
                load.wait()
        finally:
            self._end(stage, load.now())

    def drained(self, load: RunningLoad) -> None:
        """Judge what each stage has shown; without stages the figures are of no number of users."""
        is_ramp = not self._ended and self._changes != 1 and bool(self._records)
        if is_ramp or len(self._ended) > MOST_STAGES:
            load.manifest.users_changed = load.manifest.shaped = True
            return
        for number, (stage, end) in enumerate(self._ended):
            load.manifest.steps.append(self._facts(number, stage, end))
        load.manifest.users = max((stage.users for stage, _ in self._ended), default=load.manifest.users)

    def _begin(self, load: RunningLoad, constant: ConstantUsers) -> _Stage:
        spread_s = min((load.warmed_up.e2e_ms or 0.0) / 1000, LONGEST_SPREAD_S)
        load.start_step(step=len(self._ended), users=constant.users, spread_s=spread_s)
        return _Stage(constant.users, constant.since, Ns(load.now() + int(spread_s * SECOND)))

    def _end(self, stage: _Stage | None, end: Ns) -> None:
        if stage is not None and end - stage.began >= SHORTEST_STAGE_S * SECOND and end > stage.full:
            self._ended.append((stage, end))

    def _facts(self, number: int, stage: _Stage, end: Ns) -> StepFacts:
        precision = parse_precision(self.scenario.precision)
        watch = StepWatch(stage.full, stage.full, (end - stage.full) / SECOND, precision)
        watch.add(self._records)
        facts = StepFacts(number=number, concurrency=stage.users, began_ns=stage.began)
        note_window(facts, watch.judged(end))
        return facts

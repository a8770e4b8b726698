"""The summary of a run as types: what ``summary.json`` holds. Names are a contract.

A key without a default is always there, null where nothing was measured. Most keys with a default are left out where
they have it; summaries of older versions lack some of them. The unit is in the key: ``_ms``, ``_s`` or ``_seconds``,
``_per_minute``, ``_per_second``.
"""

from typing import Any, Literal

import msgspec

from loadgen.measure.check import CheckResult
from loadgen.measure.envelope import Cell
from loadgen.measure.statistics import Distribution
from loadgen.measure.verdict import Verdict
from loadgen.results.manifest import Kind, MadeBy

Latency = dict[str, Distribution]
"""The distribution of each latency, by the key of its metric."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the summary."""


class Figure(_Part, frozen=True, kw_only=True):
    """An estimate with its 95 % interval."""

    value: float | None
    ci95: tuple[float, float] | None
    """None where the sample is too small for one."""
    n: int
    """Number of values."""


class Chat(_Part, frozen=True, kw_only=True):
    """What was done to chats before they were sent."""

    made_by: MadeBy
    """Who makes the text that the model continues of a chat."""
    stop: list[str]
    """Texts that end an answer, sent with each request."""


class Sample(_Part, frozen=True, kw_only=True):
    """The prompts of the data set that were asked."""

    prompts: int
    rounds: int
    """How often the sample was begun."""


class Cause(_Part, frozen=True, kw_only=True):
    """Requests that failed alike."""

    outcome: str
    message: str
    count: int


class Requests(_Part, frozen=True, kw_only=True, omit_defaults=False):
    """What became of the measured requests."""

    started: int | None
    """None of a run that broke off: nobody knows how many were in flight."""
    completed: int
    failed: int
    aborted: int
    dropped: int
    by_error: dict[str, int]
    """Number of requests by each outcome but ``ok``."""
    errors: dict[str, str]
    """The most frequent message of each outcome."""
    causes: list[Cause] = []


class TokenCounts(_Part, frozen=True, kw_only=True):
    """Output tokens by each who counted all answers; None by whom some were not counted."""

    usage: int | None
    tokenizer: int | None
    chunks: int | None
    put_right: int | None
    """Tokens that the server's usage is known to leave out, and that were added."""


class Tokens(_Part, frozen=True, kw_only=True):
    """Tokens of complete answers."""

    output: int | None
    input: int | None
    cached_input: int | None
    output_per_request: Distribution
    counted_by: dict[str, int]
    """Number of answers by who counted their tokens."""
    counts: TokenCounts
    finish_reasons: dict[str, int]


class VerdictSummary(_Part, frozen=True, kw_only=True):
    """What the run is worth."""

    status: Verdict
    checks: list[CheckResult]


class LoopLag(_Part, frozen=True, kw_only=True):
    """Lateness of an event loop, ms."""

    p50: float | None
    p99: float | None
    max: float | None


class ReadDelay(_Part, frozen=True, kw_only=True):
    """Time from the kernel's receive stamp to the read in user space, ms."""

    p50: float
    max: float


class Width(_Part, frozen=True, kw_only=True):
    """Width of the intervals in which arrivals are known, ms."""

    mean: float
    max: float


class Widths(_Part, frozen=True, kw_only=True):
    """Width of the intervals in which arrivals are known, by what arrived."""

    first_token: Width | None
    last_token: Width | None
    end: Width | None


class Health(_Part, frozen=True, kw_only=True):
    """How processes of the load generator were while they measured; of several the worst, and totals."""

    loop_lag_ms: LoopLag | None
    cpu_seconds: float | None
    cpu_share: float | None
    """CPU time over wall time: 1 is a whole core."""
    gc_pauses: float | None
    gc_longest_ms: float | None
    read_delay_ms: ReadDelay | None
    coalesced_reads: int | None
    """Chunks that were read together with a later one; None where nobody looked."""
    chunks: int | None


class WorkerHealth(Health, frozen=True, kw_only=True):
    """How one process was."""

    worker: int


class Calibration(_Part, frozen=True, kw_only=True):
    """What this machine was measured to hold."""

    made_at: str
    held: tuple[Cell, ...]
    text: str


class InstrumentSummary(Health, frozen=True, kw_only=True, omit_defaults=False):
    """How well the load generator measured."""

    lacks: list[str] = []
    """What this system does not have."""
    timestamp_source: str | None
    interval_ms: Widths
    itl_share: float | None
    """Share of the streams that was to be read token by token."""
    streams_read_token_by_token: int
    streams: int
    replaced_connections: int
    calibration: Calibration | None
    workers: list[WorkerHealth]


class Bound(_Part, frozen=True, kw_only=True):
    """Output tokens/s of one user that memory bandwidth allows."""

    tokens_per_second: float
    of: str
    """GPUs and split."""


class GpuSummary(_Part, frozen=True, kw_only=True):
    """A GPU of the engine."""

    name: str | None
    driver: str | None
    power_cap_w: float | None


class EngineFacts(_Part, frozen=True, kw_only=True):
    """How the engine was started, where loadgen did that."""

    title: str
    source: str
    revision: str | None
    dtype: str
    weights: str
    packages: dict[str, str]
    image: str | None
    image_digest: str | None
    commands: list[list[str]]
    variables: dict[str, str]
    gpus: list[GpuSummary]
    split: str | None
    time_factor: float | None
    """How many times faster than modelled a simulated engine ran."""
    startup_s: float | None
    notes: list[str]
    bound: Bound | None


class EnergySummary(_Part, frozen=True, kw_only=True):
    """Energy and cost of a window; boards alone, idle power included."""

    gpus: int
    joules: float | None = None
    source: str | None = None
    """``counter`` or ``power``."""
    seconds: float | None = None
    watts: float | None = None
    joules_per_request: float | None = None
    joules_per_output_token: float | None = None
    tokens_per_second_per_watt: float | None = None
    cost_per_million_output_tokens: float | None


class Goodput(_Part, frozen=True, kw_only=True):
    """What was served within the limits of ``--slo``."""

    requests_per_minute: float
    share: Figure
    """Of the requests sent in the window, 0 to 1."""
    slo: str
    at_concurrency: int | None = None


class Served(_Part, frozen=True, kw_only=True):
    """What was served in a window."""

    window_seconds: float | None
    round_trips: float | None = None
    """Length of the window in mean round trips; of users who think, in mean cycles."""
    answers: float | None = None
    """Complete answers; one that crosses an edge counts in proportion."""
    requests_per_minute: Figure | None
    output_tokens_per_second: float | None
    output_tokens_per_second_ci95: tuple[float, float] | None
    rough: bool = False
    """Whether the intervals are rough: the window holds few round trips, or throughput varied slowly in it."""
    no_interval: str | None = None
    """Why there is no interval, if so."""
    think_ms: float | None = None
    """Mean think time of users who think."""


class StepSummary(Served, frozen=True, kw_only=True):
    """One step of the load; a plain closed loop is one."""

    step: int
    concurrency: int
    steady: bool | None
    """None where nobody can tell."""
    unsteady: str | None
    """Why it was not steady, if so."""
    undecided: str | None
    """Why nobody can tell, if so."""
    ended_by: str
    verdict: Verdict
    requests: int | None = None
    """Requests sent in the window, those that could not be sent included."""
    failed: int | None = None
    """Of them, those without a complete answer."""
    latency: Latency
    """Of the complete answers among them."""
    goodput: Goodput | None
    energy: EnergySummary | None


class KneeSummary(_Part, frozen=True, kw_only=True, omit_defaults=False):
    """Where throughput stops growing."""

    between: tuple[int, int]
    """Users of the last step clearly below 95 % of the highest throughput, 0 if none is, and of the first above."""
    highest: float
    per_user: float
    operational: float
    text: str
    latency: Latency | None = None
    """Of the second of those steps; None in summaries of older versions."""


class ThroughputSummary(_Part, frozen=True, kw_only=True, omit_defaults=False):
    """The highest throughput of all steps."""

    requests_per_minute: Figure | None
    at_concurrency: int | None
    """Fewest users that reach it."""
    plateau: list[int]
    """Users of the steps that it is the mean of."""
    output_tokens_per_second: float | None
    latency: Latency | None = None
    """At those users; None without a figure, and in summaries of older versions."""
    knee: KneeSummary | None
    goodput: Goodput | None


class Speed(_Part, frozen=True, kw_only=True):
    """Output tokens/s of one user over the full round trip."""

    tokens_per_second_mean: Figure | None
    """Mean over requests."""
    tokens_per_second_total: Figure | None
    """Total tokens over total time."""
    no_interval: str | None = None
    """Why one of them has no interval, if so."""


class Rate(Served, frozen=True, kw_only=True):
    """An open loop."""

    asked_per_second: float
    process: str
    cv: float
    """Coefficient of variation of the gaps between arrivals."""
    max_in_flight: int
    scheduled: int
    dropped: int
    unsteady: str | None
    undecided: str | None
    queueing_episodes: float | None
    run_time_needed_s: int | None
    """Run time that would show enough episodes of the queue for intervals."""
    latency_from_schedule: Latency
    latency_from_send: Latency
    send_lag_ms: Distribution | None
    goodput: Goodput | None


class NameWindow(Served, frozen=True, kw_only=True):
    """The requests of one name in the window in which the run's throughput was measured."""

    requests: int
    failed: int
    goodput: Goodput | None
    share: float | None
    """Of the answers that were served in the window, 0 to 1."""


class NameSummary(_Part, frozen=True, kw_only=True):
    """The figures of one name."""

    requests: Requests
    latency: Latency
    tokens: Tokens
    window: NameWindow | None = None


class Slice(_Part, frozen=True, kw_only=True):
    """A part of the measured time of a long run."""

    start_s: float
    """Since the first measured request began."""
    end_s: float
    requests_per_minute: float
    output_tokens_per_second: float | None
    failed: int
    """Requests that began in it and had no complete answer: they were due, sent, or could not be sent."""
    latency: Latency


class Summary(_Part, frozen=True, kw_only=True):
    """The figures of a run, with its verdict."""

    schema: Literal[1]
    kind: Kind
    run_id: str
    grafana: str | None
    """Where the run can be seen in Grafana."""
    dataset: str | None
    chat: Chat
    sample: Sample
    engine: str
    model: str
    simulated: bool
    embedded: str | None
    """What the embedded engine is, where it was measured."""
    launched: EngineFacts | None
    client: str | None
    proxy: str | None = None
    """Without credentials; absent where requests went straight to the server."""
    stream: bool
    """Whether streams were asked for."""
    streamed: bool | None = None
    """Whether any answer came as a stream; absent where nobody looked."""
    verdict: VerdictSummary
    requests: Requests
    latency: Latency
    tokens: Tokens
    instrument: InstrumentSummary
    users_changed: bool = False
    speed: Speed | None = None
    steps: list[StepSummary] | None = None
    """Of closed loops; a plain one is one step, unless the number of users was changed."""
    throughput: ThroughputSummary | None = None
    rate: Rate | None = None
    energy: EnergySummary | None
    by_name: dict[str, NameSummary] = {}
    drift: list[Slice] = []
    """Slices of a run of more than an hour that has no steps: at most 12, of a round length but for the last."""

    @property
    def is_sweep(self) -> bool:
        """Whether the run has several steps, whose figures are not to be mixed."""
        return len(self.steps or ()) > 1

    def json(self) -> bytes:
        """Return the content of ``summary.json``."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def as_json(summary: Summary) -> dict[str, Any]:
    """Return a summary as plain dicts and lists, as they stand in ``summary.json``."""
    found: dict[str, Any] = msgspec.json.decode(summary.json())
    return found

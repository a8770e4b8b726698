"""What a run says of itself beside its records: its processes, its steps, its schedule, the engine's own counters."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec


class WorkerFacts(msgspec.Struct, kw_only=True):
    """One process of the load generator."""

    number: int
    """``worker`` of its records. 0 is the master, or the only process there is."""
    name: str
    """Locust's name of it: its host's name, and a random part."""
    host: str
    pid: int | None
    """None where it never said."""
    clock_offset_ns: int = 0
    """To be added to its times, to have them on the clock of worker 0; 0 where both read the same clock."""
    clock_uncertainty_ns: int = 0
    """Half of the fastest round trip in which the offset was measured."""
    wall_offset_ms: float = 0.0
    """Its wall clock minus that of worker 0."""
    started_requests: int | None = None
    """Requests that it has started, as its last report says; None if it never reported."""
    lost: str | None = None
    """What became of it, where it did not stay until the end."""

    @property
    def label(self) -> str:
        """How messages to the user name it."""
        return self.name if self.pid is None else f"{self.host}, process {self.pid}"


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """How well one process of the load generator was while it measured."""

    worker: int = 0
    loop_lag_p50_ms: float | None = None
    loop_lag_p99_ms: float | None = None
    loop_lag_max_ms: float | None = None
    cpu_seconds: float | None = None
    cpu_share: float | None = None
    """CPU time over wall time: 1 is a whole core, which is all that one process can use."""
    gc_pauses: int | None = None
    """Collections of the garbage collector, each of which stops all users."""
    gc_longest_ms: float | None = None
    gc_total_ms: float | None = None


class UserCode(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the tasks of a locustfile's users, in one process or in all."""

    tasks: int
    """Tasks that were started, including tasks that raised."""
    errors: int = 0
    """Tasks that raised an exception."""
    first_error: str | None = None
    """The first exception as text, such as ``ValueError: my own check failed``; None if no task raised."""


class StepFacts(msgspec.Struct, kw_only=True):
    """One step of the load; times on the clock of worker 0, ns."""

    number: int
    """``step`` of its requests."""
    concurrency: int
    began_ns: int
    """When its first new user was told to start."""
    window_ns: tuple[int, int] | None = None
    """Start and end of what counts: the load is constant, and every request sent in it has ended. None where the step
    was broken off."""
    unsteady: str | None = None
    """Why the window is not taken for a steady state, if so."""
    undecided: str | None = None
    """Why nobody can tell whether it is one, if so."""
    ended_by: Literal["precision", "step-time", "broken off"] = "broken off"


class Arrivals(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule of an open loop, as it was asked for."""

    process: Literal["constant", "poisson", "gamma"]
    rate: float
    """Requests per second."""
    cv: float
    """Coefficient of variation of the gaps: 0 constant, 1 Poisson."""
    max_in_flight: int
    """Of all processes together; requests beyond it are dropped."""
    epoch_ns: int | None = None
    """Time 0 of the schedule on the clock of worker 0; None until it has begun."""
    window_ns: tuple[int, int] | None = None
    """What counts, after the engine has become steady and before the drain. Found when the run is summarised, so None
    in ``run.json``."""
    unsteady: str | None = None
    """Likewise: why it is not taken for a steady state, if so."""
    undecided: str | None = None
    """Likewise: why nobody can tell whether it is one, if so."""


class EngineCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine's own ``/metrics`` said at one moment, totals since its start; None where it does not say."""

    at_ns: int
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    requests: float | None = None
    """Requests that have ended, whatever became of them."""
    running: float | None = None
    waiting: float | None = None
    prefix_hits: float | None = None
    """Prompt tokens that were found in the prefix cache."""
    prefix_queries: float | None = None
    """Prompt tokens that were looked for in it."""


class EngineSample(msgspec.Struct, frozen=True, array_like=True):
    """The engine's load at one moment, as its own ``/metrics`` reports it; None where it does not."""

    at_ns: int
    """Monotonic clock of the process that conducts."""
    running: float | None = None
    """Requests that it works on."""
    waiting: float | None = None
    """Requests in its queue."""
    kv_cache: float | None = None
    """Share of its KV cache that is in use, 0 to 1; of several caches the largest."""


class GpuFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one GPU when it is looked at; None where it does not say."""

    index: int
    """As the system counts, from 0."""
    uuid: str | None = None
    name: str | None = None
    bus_id: str | None = None
    """Of PCI, as in ``00000000:07:00.0``."""
    memory_bytes: int | None = None
    memory_free_bytes: int | None = None
    driver: str | None = None
    """Version of the driver."""
    cuda: str | None = None
    """Newest version of CUDA that the driver knows, as in ``13.0``."""
    compute_capability: str | None = None
    """As in ``8.0``."""
    sm_clock_mhz: int | None = None
    """At this moment: low where nothing runs."""
    memory_clock_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    max_memory_clock_mhz: int | None = None
    power_cap_w: float | None = None
    """The limit in force."""
    power_default_w: float | None = None
    """The limit it comes with."""
    persistence: bool | None = None
    """Whether the driver stays loaded while nothing uses it."""
    ecc: bool | None = None
    """Whether its memory corrects errors."""
    mig: bool | None = None
    """Whether it may be cut into instances."""
    links: Mapping[int, str] | None = None
    """How it is joined to each other GPU that counts, by index: ``NV12``, so many NVLinks; ``PIX``, one PCIe bridge;
    ``PXB``, several; ``PHB``, the processor's; ``NODE``, within a NUMA node; ``SYS``, across; ``PSB``, one board. One
    of which it does not say is missing."""


def kind(gpus: Sequence[GpuFacts]) -> str | None:
    """Return the name of GPUs that are whole and of one kind; None where they are not, or do not say."""
    names = {gpu.name for gpu in gpus}
    return names.pop() if len(names) == 1 and not any(gpu.mig for gpu in gpus) else None

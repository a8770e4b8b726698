"""What a run needs of the process that it is in, and what it is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from loadgen.clock import Ns
from loadgen.measure.energy import EnergySample
from loadgen.measure.facts import EngineCounters, EngineSample
from loadgen.results.manifest import Manifest
from loadgen.results.store import RunFolder
from loadgen.run.load.model import LoadModel
from loadgen.run.share import ShareHost
from loadgen.workload.prompts import Prompt


class RunHost(ShareHost, Protocol):
    """What a run needs of the process that conducts it."""

    def set_users(self, users: int) -> None:
        """Have that many users, over all processes; returns when they are there."""

    def measuring_begins(self) -> None:
        """Take notice that the warm-up has ended."""

    def end_run(self) -> None:
        """End the run, which is over by itself; returns at once."""


class EngineMonitor(Protocol):
    """What the engine itself measures."""

    def read_counters(self) -> EngineCounters | None:
        """Read its counters; None if it has none."""

    def sample(self) -> None:
        """Ask the engine for its load and its GPUs for what they used, if it is time; returns at once."""

    def energy(self) -> Sequence[EnergySample]:
        """Take a last sample, and return all; empty if nothing is known of its GPUs."""

    def loads(self) -> Sequence[EngineSample]:
        """Return the samples of its load; empty if it reports none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """What a run is made from."""

    manifest: Manifest
    folder: RunFolder
    load: LoadModel
    warm_up: Sequence[Prompt]
    stop_timeout_s: float
    """Requests in flight at the end have this long to end by themselves."""
    began_ns: Ns
    """When Locust began the run, and its timer of ``--run-time``."""

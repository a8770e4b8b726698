"""Whether any bytes of a server stall or crash the client, or are read otherwise token by token than lazily."""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from benchmarks import bad_bytes
from benchmarks.figures import Case, Section
from loadgen.record import RequestRecord

_SHOWN = 10
_READ_AGAIN = 3
"""A decode that seems the slowest is repeated so often: what the machine did meanwhile is none of its doing."""

_SHORTEST = 1_000
"""Bytes that even a shorter response counts as: what each costs whatever its length is no time of a byte."""


@dataclass(slots=True)
class Found:
    """What a number of inputs have shown."""

    inputs: int = 0
    decodes: int = 0
    slowest_ns_per_byte: float = 0.0
    slowest_seed: int | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The figures in a line."""
        return (
            f"fuzz: {self.inputs:,} inputs, {self.decodes:,} decodes, {len(self.faults)} faults, "
            f"at most {self.slowest_ns_per_byte:.0f} ns a byte (seed {self.slowest_seed})"
        )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare what may be varied."""
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; some hours before a release")
    parser.add_argument("--seed", type=int, default=0, help="the first one; each input has its own")
    parser.set_defaults(rounds=1)


def measure(options: argparse.Namespace) -> Section:
    """Read one broken response after another until time is up."""
    found = run(_until(options.seconds, options.seed))
    figures = {
        "inputs": found.inputs,
        "decodes": found.decodes,
        "faults": len(found.faults),
        "slowest decode, ns a byte": found.slowest_ns_per_byte,
    }
    notes = [*found.faults[:_SHOWN], f"The slowest was that of seed {found.slowest_seed}."]
    return Section("broken responses of all engines", [Case("fuzz", [figures] if not found.faults else [])], notes)


def _until(seconds: float, seed: int) -> Iterator[int]:
    due = time.monotonic() + seconds
    while time.monotonic() < due:
        yield seed
        seed += 1


def run(seeds: Iterable[int]) -> Found:
    """Read the responses of some seeds, and note whatever is not as it has to be."""
    found = Found()
    for seed in seeds:
        case = bad_bytes.case_of(seed)
        found.inputs += 1
        try:
            found.faults += [f"seed {seed}: {fault}" for fault in _look_at(case, seed, found)]
            bad_bytes.read_apart(case.raw.partition(b"\r\n\r\n")[2])
        except Exception as error:  # noqa: BLE001 any is a finding
            found.faults.append(f"seed {seed}: {type(error).__name__}: {error}"[:200])
    return found


def _look_at(case: bad_bytes.Case, seed: int, found: Found) -> Iterator[str]:
    took, eager = _timed(case)
    lazy = bad_bytes.read(case, lazily=True)
    found.decodes += 2
    if took > found.slowest_ns_per_byte:
        took = min(took, *(_timed(case)[0] for _ in range(_READ_AGAIN)))
    if took > found.slowest_ns_per_byte:
        found.slowest_ns_per_byte, found.slowest_seed = took, seed
    if (differ := bad_bytes.disagreement(eager, lazy)) is not None:
        yield differ
    if bad_bytes.secrets_in(eager) or bad_bytes.secrets_in(lazy):
        yield "the key is in the record"


def _timed(case: bad_bytes.Case) -> tuple[float, RequestRecord]:
    """Return how long a response takes to read, CPU ns a byte, and its record."""
    began = time.thread_time_ns()
    record = bad_bytes.read(case, lazily=False)
    return (time.thread_time_ns() - began) / max(_SHORTEST, len(case.raw)), record

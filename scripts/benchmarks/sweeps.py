"""Sweeps of our client on engines whose capacity is known: one run of ``locustfiles/sweep.py``, and what it says."""

import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import ROOT, pin_server
from benchmarks.ours import RunError
from loadgen.engines.simulated.batching import PROFILES
from loadgen.launch.simulated import start_simulated

SWEEP = ROOT / "locustfiles" / "sweep.py"
PROMPT_TOKENS = 60
PROMPTS = 2000
"""Distinct ones: so many that none of a sweep of this length comes twice soon."""
LEAST_ALLOWED, ALIKE = 0.02, 0.01
"""Shares by which a headline may be off the closed form, and two may be apart, however narrow their intervals."""
_WORDS = ("stone", "river", "cloud", "light", "night", "tree", "house", "bird", "song", "road", "field", "wind")


@dataclass(frozen=True, slots=True)
class Bound:
    """An engine, made so much faster that a sweep takes about a minute, and the answers it is asked for."""

    profile: str
    time_factor: float
    output_tokens: int
    by: str
    """What bounds its throughput."""

    @property
    def requests_per_minute(self) -> float:
        """Its capacity by the closed form."""
        per_second = PROFILES[self.profile].requests_per_second(PROMPT_TOKENS, self.output_tokens)
        return 60 * per_second * self.time_factor


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run happens, and what it is told about the engine."""

    folder: Path
    options: Sequence[str]
    """Of the client: host, data set, results."""

    @property
    def results(self) -> Path:
        """Where runs are left."""
        return self.folder / "results"


@dataclass(frozen=True, slots=True)
class Headline:
    """What a sweep found."""

    value: float | None
    """None where no step was steady and long enough."""
    ci95: tuple[float, float] | None
    users: int
    verdict: str
    summary: Mapping[str, Any]
    truth: float | None = None

    @property
    def allowed(self) -> float:
        """The difference from the truth that it allows, as a share: half of its interval's width, or 2 %."""
        half = 0.0 if self.ci95 is None or not self.value else (self.ci95[1] - self.ci95[0]) / 2 / self.value
        return max(half, LEAST_ALLOWED)

    @property
    def compared(self) -> str:
        """The number against the truth, with what the verdict found."""
        words = "; ".join([self.verdict, *self.findings])
        if self.value is None or self.truth is None:
            return f"no headline: {words}"
        off = self.value / self.truth - 1
        within = "within" if abs(off) <= self.allowed else "NOT within"
        at = f"{self.text} at {self.users} users, closed form {self.truth:,.0f}"
        return f"{at}, off by {off:+.2%}, {within} {self.allowed:.2%}; {words}"

    def agrees(self, other: "Headline") -> bool:
        """Whether their intervals overlap, or they differ by at most 1 %."""
        if self.value is None or other.value is None:
            return False
        if abs(self.value - other.value) <= ALIKE * max(self.value, other.value):
            return True
        if self.ci95 is None or other.ci95 is None:
            return False
        return self.ci95[0] <= other.ci95[1] and other.ci95[0] <= self.ci95[1]

    @property
    def text(self) -> str:
        """The number with its interval."""
        if self.value is None:
            return "no headline"
        interval = "no interval" if self.ci95 is None else f"{self.ci95[0]:,.0f} to {self.ci95[1]:,.0f}"
        return f"{self.value:,.0f} requests/min ({interval})"

    @property
    def findings(self) -> list[str]:
        """The verdict's lines that are not ok."""
        checks = self.summary["verdict"]["checks"]
        return [f"{c['name']}: {c['status']}, {c['value']}" for c in checks if c["status"] not in {"ok", "not checked"}]


@contextmanager
def engine(bound: Bound) -> Iterator[Place]:
    """Run an engine on its core, with a folder in which a client may run."""
    with tempfile.TemporaryDirectory(prefix="bench-sweep-") as name:
        folder = Path(name)
        write_prompts(folder / "prompts.jsonl")
        server = start_simulated(folder / "truth.jsonl", profile=bound.profile, time_factor=bound.time_factor)
        try:
            pin_server(server.child.pid)
            options = ["--host", server.host, "--dataset", str(folder / "prompts.jsonl"), "--sample", str(PROMPTS - 10)]
            yield Place(folder, [*options, "--max-tokens", str(bound.output_tokens)])
        finally:
            server.child.stop()


def write_prompts(path: Path) -> None:
    """Write distinct prompts of as many tokens each, as the simulated engine counts them: in words."""
    rng = random.Random(PROMPTS)
    with path.open("w") as file:
        for number in range(PROMPTS):
            words = [f"{number}", *rng.choices(_WORDS, k=PROMPT_TOKENS - 1)]
            file.write(json.dumps({"prompt": " ".join(words)}) + "\n")


def command(place: Place, *options: str) -> list[str]:
    """Return the command line of a sweep."""
    base = [sys.executable, "-m", "locust", "-f", str(SWEEP), "--headless", "--loglevel", "ERROR"]
    return [*base, *place.options, "--results", str(place.results), *options]


def headline(place: Place, tail: Callable[[], str]) -> Headline:
    """Read what the one run in a place found; raises RunError."""
    found = list(place.results.glob("*/summary.json"))
    if len(found) != 1:
        raise RunError(f"{len(found)} runs with a summary: {tail()}")
    summary = msgspec.json.decode(found[0].read_bytes())
    throughput = summary["throughput"]
    estimate = throughput["requests_per_minute"]
    ci95 = None if estimate is None or estimate["ci95"] is None else (estimate["ci95"][0], estimate["ci95"][1])
    return Headline(
        None if estimate is None else estimate["value"],
        ci95,
        throughput["at_concurrency"],
        summary["verdict"]["status"].upper(),
        summary,
    )

"""What a peer is: another load generator, how it is told what to do, and what it says it saw."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MODEL = "simulated"
PROMPT = "Why is the sky blue?"


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop of streams, each of which asks again as soon as it has its answer."""

    streams: int = 64
    requests: int = 256
    """All of them together."""
    tokens: int = 128
    """Output tokens of each answer."""
    spread_s: float = 2.0
    """The first requests of the streams are spread over so many seconds."""
    host: str = ""
    """Base URL; whoever starts the server fills it in."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One completed request, as the peer reports it."""

    ttft_ms: float
    gaps_ms: tuple[float, ...] = ()
    """Between its tokens, in order; empty where the peer does not report them one by one."""
    request_id: str | None = None
    """The x-request-id that it sent; None where it sends or exports none."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What a peer reports of one run."""

    answers: tuple[Answer, ...]

    @property
    def ttft_ms(self) -> list[float]:
        """One per completed request."""
        return [answer.ttft_ms for answer in self.answers]

    @property
    def itl_ms(self) -> list[float]:
        """Gaps between tokens, of all requests."""
        return [gap for answer in self.answers for gap in answer.gaps_ms]

    @property
    def completed(self) -> int:
        """Requests that it counts as successes."""
        return len(self.answers)


@dataclass(frozen=True, slots=True)
class Peer:
    """A load generator that can be installed, run and read."""

    name: str
    version: str
    requirements: tuple[str, ...]
    """Pinned; each is installed in a call to pip of its own, in order. None: it runs in our environment."""
    command: Callable[[str, Load, Path], list[str]]
    """(Python of its environment, load, an empty folder for its files) to the command line."""
    read: Callable[[Path], Reported]
    """From that folder."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Added to the environment: telemetry off, and the like."""

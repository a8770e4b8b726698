"""The truth server, started: a simulated engine that logs when it sent what."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadgen.launch.child import ChildServer

ENGINE = "simulated"
"""Its name among the dialects, and what its ``server`` header says."""


class Truth(msgspec.Struct, frozen=True):
    """What the truth server says of one answer; times on the monotonic clock, ns, just before each send call."""

    request_id: str
    received_ns: int
    sent_ns: list[int]
    kinds: list[str]
    """What each send held: h(ead), r(ole), t(oken chunk), u(sage), d(one), e(nd)."""
    output_tokens: int

    @property
    def chunk_ns(self) -> list[int]:
        """When each chunk of tokens was sent."""
        return [at for at, kinds in zip(self.sent_ns, self.kinds, strict=True) for _ in range(kinds.count("t"))]

    @property
    def end_ns(self) -> int | None:
        """When the end of the response was sent; None if it never was."""
        return self.sent_ns[-1] if "e" in self.kinds[-1] else None


@dataclass(frozen=True, slots=True)
class SimulatedServer:
    """A running truth server and its log."""

    child: ChildServer
    log: Path

    @property
    def host(self) -> str:
        """Base URL."""
        return self.child.host

    def truths(self) -> dict[str, Truth]:
        """Return what it has logged so far, by request id."""
        if not self.log.exists():
            return {}
        rows = (msgspec.json.decode(line, type=Truth) for line in self.log.read_bytes().splitlines())
        return {row.request_id: row for row in rows}


def start_simulated(log: Path, **options: str | float | bool) -> SimulatedServer:
    """Start it with options of ``python -m engines.simulated``; raises ChildProcessError."""
    arguments = ["--log", str(log)]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        arguments += [flag] if value is True else [flag, str(value)]
    return SimulatedServer(ChildServer("engines.simulated", arguments), log)

"""The truth server, started: a simulated engine that logs when it sent what."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadgen.launch.child import ChildServer
from loadgen.measure.truth import Truth

ENGINE = "simulated"
"""Its name among the engines, and what its ``server`` header says."""


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
        rows = (
            msgspec.json.decode(line, type=Truth)
            for line in self.log.read_bytes().splitlines(keepends=True)
            if line.endswith(b"\n")
        )
        return {row.request_id: row for row in rows}


def start_simulated(log: Path, **options: str | float | bool) -> SimulatedServer:
    """Start it with options of ``python -m loadgen.engines.simulated``; raises ChildProcessError."""
    arguments = ["--log", str(log)]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        arguments += [flag] if value is True else [flag, str(value)]
    return SimulatedServer(ChildServer("loadgen.engines.simulated", arguments), log)

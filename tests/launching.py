"""``loadgen`` as its users run it, with folders of its own, and engines that are one file each."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil
from conftest import assert_ended_well, clean_environment

from loadgen.launch.registry import Running

SIMULATED = """\
\"\"\"A new engine: one file.\"\"\"

from loadgen.engines.engine import Engine, Environment, Launch, Start
from loadgen.protocol.chat import ChatApi


def serve(start: Start) -> list[list[str]]:
    command = ["{bin}/python", "-m", "loadgen.engines.simulated", "--port", str(start.port), "--until-killed"]
    return [[*command, "--model", start.model.name, "--ttft-ms", "5", "--itl-ms", str(start.options.get("gap", 1))]]


ENGINE = Engine(
    name="mine",
    title="Mine 1.0",
    apis=(ChatApi(),),
    launches=(Launch(runs_in=Environment(), commands=serve, weight_format="none", startup_s=1),),
    options=("gap",),
)
"""


def engine_file(folder: Path, text: str = SIMULATED, **changes: str) -> Path:
    """Write an engine's file, with words of it changed."""
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "mine.py"
    path.write_text(text)
    return path


def running_command(folder: Path, *command: str, **changes: str) -> Path:
    """Write the file of an engine whose process is any command."""
    body = f"    return [{list(command)!r}]"
    start, end = SIMULATED.index("    command ="), SIMULATED.index("\n\n\nENGINE")
    return engine_file(folder, SIMULATED[:start] + body + SIMULATED[end:], **changes)


@dataclass
class Home:
    """A machine's folders of ours, and what runs by them."""

    folder: Path
    cache: Path
    more: Mapping[str, str] = field(default_factory=dict)
    _started: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """For processes that live there."""
        own = {"XDG_STATE_HOME": str(self.folder / "state"), "XDG_CACHE_HOME": str(self.cache)}
        return clean_environment(**own) | {"COLUMNS": "200", "HF_HUB_OFFLINE": "1"} | dict(self.more)

    def loadgen(self, *arguments: object, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        command = [sys.executable, "-m", "loadgen.cli", *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: object) -> "subprocess.Popen[bytes]":
        """Start a command and leave it running."""
        with (self.folder / "loadgen.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "loadgen.cli", *map(str, arguments)],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process

    def assert_ended_well(self, done: "subprocess.CompletedProcess[str]", results: str = "results") -> None:
        """All cells of a matrix were measured, and only that this machine was busy may be wrong with them."""
        assert_ended_well(self.folder / results, done.returncode, done.stderr)

    def end(self) -> None:
        """Kill what a test that failed has left running."""
        for process in self._started:
            process.kill()
            process.wait()

    def found(self, pattern: str) -> list[Path]:
        """Files below the folder that a pattern fits; folders may be renamed meanwhile, at which ``glob`` stumbles."""
        files = [Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names]
        return [path for path in files if path.relative_to(self.folder).match(pattern)]

    def engines(self) -> list[Running]:
        """What is registered as running."""
        files = sorted((self.folder / "state" / "loadgen" / "engines").glob("*.json"))
        return [msgspec.json.decode(file.read_bytes(), type=Running) for file in files]

    def processes(self) -> list[str]:
        """Command lines of everything that runs here in our name: engines, and clients of a matrix."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                if environment.get("XDG_STATE_HOME") == str(self.folder / "state") and process.pid != os.getpid():
                    found.append(" ".join(process.cmdline()))
            except (psutil.Error, OSError):
                continue
        return [line for line in found if line]


def wait_for(condition: "Sequence[object] | object", seconds: float = 300) -> None:
    """Wait until something that is called is true."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)

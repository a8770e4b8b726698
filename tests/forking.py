"""Locust forked from a process that has imported it and nothing of ours: most of a start's time is Locust's imports."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import CHAT, Finished, Locust, clean_environment

PROGRAM = """
import json, os, signal, sys
import locust.main, numpy
from gevent.os import fork_gevent
for line in sys.stdin:
    asked = json.loads(line)
    child = fork_gevent()
    if child == 0:
        signal.alarm(600)
        for descriptor, path in enumerate((os.devnull, asked["out"], asked["err"])):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv[1:] = asked["arguments"]
        locust.main.main()
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Forks:
    """A process that becomes one locust after another."""

    process: "subprocess.Popen[str]"

    def run(self, folder: Path, arguments: list[str], environment: Mapping[str, str], results: Path) -> Finished:
        """Fork a locust, in a process of its own as any other, and wait for its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        out, err = folder / "locust.out", folder / "locust.err"
        for path in (out, err):
            path.unlink(missing_ok=True)
        asked = {"out": str(out), "err": str(err), "cwd": str(folder), "arguments": arguments}
        self.process.stdin.write(json.dumps(asked | {"environment": dict(environment)}) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return Finished(status, out.read_text(), err.read_text(), results=results)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """One for all tests of a module."""
    command = [sys.executable, "-c", PROGRAM]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=clean_environment(), text=True, **pipes) as process:
        yield Forks(process)


@pytest.fixture
def locust(forks: Forks, tmp_path: Path) -> Locust:
    """Run as the fixture of this name in ``conftest.py`` does, forked."""

    def run(*arguments: str, users: int = 1, environment: dict[str, str] | None = None) -> Finished:
        results = tmp_path / "results"
        asked = ["-f", str(CHAT), "--headless", "--users", str(users), "--results", str(results), *arguments]
        return forks.run(tmp_path, asked, clean_environment(**(environment or {})), results)

    return run

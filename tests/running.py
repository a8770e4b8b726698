"""Locust with one of our locustfiles, headless, run to its end or left running for a while."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from conftest import ROOT, Finished, clean_environment
from support.locust_process import LOCUST, popen

from loadgen.launch.simulated import SimulatedServer

WORDS = 60
"""Of a prompt: what the simulated engine counts as its tokens."""


def run_locustfile(
    folder: Path,
    name: str,
    *arguments: str,
    meanwhile: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run ``locustfiles/NAME`` from a folder, do something meanwhile, and wait for the end."""
    results = folder / "results"
    command = [*LOCUST, "-f", str(ROOT / "locustfiles" / name), "--headless", "--results", str(results), *arguments]
    with popen(
        command,
        cwd=folder,
        env=clean_environment(**(environment or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its workers end with it, should it have to be killed
    ) as process:
        try:
            if meanwhile is not None:
                meanwhile()
            out, err = process.communicate(timeout=600)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Finished(process.returncode, out, err, results=results)


def write_prompts(path: Path, count: int = 500) -> Path:
    """Write distinct prompts of as many words each."""
    rows = (json.dumps({"prompt": " ".join([f"{i}", *["word"] * (WORDS - 1)])}) for i in range(count))
    path.write_text("".join(row + "\n" for row in rows))
    return path


def stall(server: SimulatedServer, seconds: float, *, after: int) -> None:
    """Stop a server dead for a while, when it has answered so many requests."""
    deadline = time.monotonic() + 300
    while not server.log.exists() or server.log.read_bytes().count(b"\n") < after:
        assert time.monotonic() < deadline, "too few requests came"
        time.sleep(0.01)
    os.kill(server.child.pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(server.child.pid, signal.SIGCONT)


def conserved(done: Finished) -> bool:
    """Whether each request that was started is known by its end."""
    counted = done.summary["requests"]
    ended = sum(counted[part] for part in ("completed", "failed", "aborted", "dropped"))
    return counted["started"] is not None and counted["started"] == ended

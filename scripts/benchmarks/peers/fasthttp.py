"""Locust's FastHttpUser, reading line by line: Locust itself, from our own environment, without anything of ours."""

from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import loop
from benchmarks.peers.peer import Load, Peer


def _command(python: str, load: Load, folder: Path) -> list[str]:
    command = [python, "-m", "locust", "-f", str(loop.LOOPS / "fasthttp.py"), "--headless", "--only-summary"]
    command += ["--loglevel", "ERROR", "--host", load.host, "--users", str(load.streams)]
    # Locust starts a second's users at one instant: start all at once, and let each wait for its turn.
    command += ["--spawn-rate", str(load.streams), "--exit-code-on-error", "0"]
    return [*command, *loop.options(load, folder)]


PEER = Peer(name="locust", version=version("locust"), requirements=(), command=_command, read=loop.read)

"""The environment that a peer runs in: installed on demand, once, under ``.bench/`` in the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.peer import Peer

BENCH = Path(__file__).parents[3] / ".bench"
_COMPLETE = "installed"
"""A file that is written last: what an interrupted install leaves has none."""


class InstallError(Exception):
    """A peer could not be installed; the message names it and ends with what pip said."""


def python_of(peer: Peer) -> str:
    """Return the Python of its environment, installed if it was not; raises InstallError."""
    if not peer.requirements:
        return sys.executable
    folder = BENCH / f"{peer.name}-{peer.version}"
    python = folder / "bin" / "python"
    if not (folder / _COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        _prepare(BENCH)
        _step(peer, sys.executable, "-m", "venv", str(folder))
        for requirement in peer.requirements:
            _step(peer, str(python), "-m", "pip", "install", "--quiet", requirement)
        (folder / _COMPLETE).write_text("\n".join(peer.requirements) + "\n")
    return str(python)


def variables(peer: Peer, folder: Path) -> dict[str, str]:
    """Return the environment variables it runs with: ours, no telemetry, and its own; what it leaves is in folder."""
    off = {"DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    kept = {"TMPDIR": str(folder), "HF_HOME": str(folder / "huggingface")}  # guidellm caches each file of prompts there
    # PYTHONPATH would put modules of ours before those of its environment.
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | off | kept | dict(peer.env)


def megabytes(peer: Peer) -> float:
    """Return what its environment takes on disk, MB; 0 if it runs in ours."""
    if not peer.requirements:
        return 0.0
    files = (BENCH / f"{peer.name}-{peer.version}").rglob("*")
    return sum(path.lstat().st_size for path in files if path.is_file()) / 1e6


def _prepare(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def _step(peer: Peer, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-1000:]
        raise InstallError(f"{peer.name} {peer.version} could not be installed: {said}")

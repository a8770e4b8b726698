"""Engines that run on this machine: each has a file from before its start until nothing of it is left."""

from pathlib import Path

import msgspec

from loadgen.launch.folders import made, state_folder
from loadgen.launch.processes import is_alive, marked
from loadgen.results.files import write
from loadgen.results.launched import Launched


class Running(msgspec.Struct, kw_only=True):
    """One engine that was started."""

    id: str
    """The mark of its processes."""
    name: str
    host: str
    """Base URL."""
    gpus: tuple[int, ...]
    free_before: dict[int, int] = {}
    """Bytes of each GPU's memory that were free before it came; one that does not say is missing."""
    kill: bool = False
    """Whether its processes do not end when they are asked to."""
    log: str
    """Path of what its processes print."""
    container: str | None = None
    owner: tuple[int, float] | None
    """Process for which it runs, and when that one started, s; None: it stays until it is ended."""
    started_at: str
    """Wall time, ISO 8601."""
    launched: Launched | None = None
    """What is known of it, once it has answered."""

    @property
    def is_orphan(self) -> bool:
        """Whether the process for which it ran is gone without having ended it."""
        return self.owner is not None and not is_alive(*self.owner)

    @property
    def is_there(self) -> bool:
        """Whether a process of it is."""
        return bool(marked(self.id))


def register(running: Running) -> None:
    """Write it down, or what is new of it."""
    path = _path(running.id)
    made(path.parent, "XDG_STATE_HOME")
    write(path, msgspec.json.format(msgspec.json.encode(running), indent=2) + b"\n")


def forget(running: Running) -> None:
    """Take it off the list: nothing of it is left."""
    _path(running.id).unlink(missing_ok=True)


def registered() -> list[Running]:
    """Return what was started and not ended, the oldest first; a file that cannot be read is none."""
    found = []
    for path in sorted(_folder().glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Running))
        except (OSError, msgspec.DecodeError):
            continue
    return sorted(found, key=lambda running: running.started_at)


def launched_at(host: str) -> Launched | None:
    """Return what is known of the engine that runs at a base URL, if it was started here and has answered."""
    for running in registered():
        if running.host == host.rstrip("/") and running.launched is not None and running.is_there:
            return running.launched
    return None


def _folder() -> Path:
    return state_folder() / "engines"


def _path(engine_id: str) -> Path:
    return _folder() / f"{engine_id}.json"

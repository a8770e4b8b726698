"""One at a time: two engines on one GPU, or on the CPU, would measure each other."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loadgen.errors import UsageError
from loadgen.launch.folders import made, state_folder
from loadgen.measure.facts import GpuFacts


@contextmanager
def exclusive(gpus: Sequence[GpuFacts], purpose: str) -> Iterator[None]:
    """Hold GPUs, or the CPU where there are none; raises UsageError where somebody else does.

    A lock ends with the process that holds it, however that one ends.
    """
    places = {f"GPU {gpu.index}": gpu.uuid or f"gpu-{gpu.index}" for gpu in gpus} or {"the CPU": "cpu"}
    with ExitStack() as held:
        for place, name in places.items():
            held.enter_context(locked(state_folder() / "locks" / name, f"{place} is in use by {{}}", purpose))
        yield


@contextmanager
def locked(path: Path, message: str, purpose: str) -> Iterator[int]:
    """Hold one lock, which a process that inherits its descriptor holds too, beyond our end.

    Raises UsageError with a message, in which ``{}`` is who holds it and what for.
    """
    made(path.parent, "XDG_STATE_HOME")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            raise UsageError(f"{message.format(holder)}: wait for it, or end it.") from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{purpose} (pid {os.getpid()})".encode(), 0)
        yield file
    finally:
        os.close(file)

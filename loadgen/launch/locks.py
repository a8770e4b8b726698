"""One at a time: two engines on one GPU, or on the CPU, would measure each other."""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loadgen.errors import EngineError
from loadgen.launch.folders import made, state_folder
from loadgen.measure.facts import GpuFacts


@contextmanager
def exclusive(gpus: Sequence[GpuFacts], purpose: str) -> Iterator[None]:
    """Hold the locks of GPUs, or of the CPU if there are none; raises EngineError if another process holds one.

    The kernel releases a lock when the process that holds it ends, also after a kill -9.
    """
    places = {f"GPU {gpu.index}": gpu.uuid or f"gpu-{gpu.index}" for gpu in gpus} or {"the CPU": "cpu"}
    with ExitStack() as held:
        for place, name in places.items():
            held.enter_context(locked(state_folder() / "locks" / name, f"{place} is in use by {{}}", purpose))
        yield


@contextmanager
def locked(path: Path, message: str, purpose: str, wait: Callable[[str], None] | None = None) -> Iterator[int]:
    """Hold one lock and yield its file descriptor; a child that inherits the descriptor keeps the lock after our end.

    If another process holds the lock, ``wait`` is called with the message and the call blocks until the lock is free.
    Without ``wait`` it raises EngineError. In ``message`` ``{}`` is replaced by the purpose and the id of that process.
    """
    made(path.parent, "XDG_STATE_HOME")
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
            if wait is None:
                raise EngineError(f"{message.format(holder)}: wait for it, or end it.") from None
            wait(message.format(holder))
            fcntl.flock(file, fcntl.LOCK_EX)
        os.ftruncate(file, 0)
        os.pwrite(file, f"{purpose} (pid {os.getpid()})".encode(), 0)
        yield file
    finally:
        os.close(file)

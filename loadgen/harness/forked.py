"""The processes that Locust forks for --processes: what becomes of them, and that they end with their parent."""

import ctypes
import os
import signal
import sys

import gevent.os
import psutil

_SET_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of sys/prctl.h."""

_is_fork = False
_is_tying = False


class Forked:
    """What has become of the workers that this process has forked."""

    def ended(self) -> dict[int, str]:
        """Return the processes that have ended, each with how.

        gevent watches every fork and reaps it, so that nobody else can ask for its status.
        """
        watched = getattr(gevent.os, "_watched_children", {})
        return {pid: _how(entry[1]) for pid, entry in list(watched.items()) if isinstance(entry, tuple)}


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit status {code}"


def tie_forks() -> None:
    """Let processes that are forked from now on end with this one, until they or this one call :func:`untie`.

    One that has not joined yet would go on looking for its master for five minutes.
    """
    global _is_tying  # noqa: PLW0603 forks are the whole process's
    if not sys.platform.startswith("linux"):
        return
    _is_tying = True
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def end_with_parent() -> None:
        global _is_fork  # noqa: PLW0603
        if _is_tying:
            _is_fork = True
            prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    os.register_at_fork(after_in_child=end_with_parent)


def untie() -> None:
    """Let this process outlive its parent, as a worker with records to keep has to, and its own forks outlive it."""
    global _is_tying  # noqa: PLW0603
    if _is_fork:
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, 0)
    _is_tying = False


def is_fork() -> bool:
    """Tell whether Locust forked this process; then its parent says why it ends."""
    return _is_fork


def end_forks() -> None:
    """End the workers that were forked, none of which has a part in a run: Locust leaves them waiting for a minute."""
    for child in psutil.Process().children():
        child.terminate()

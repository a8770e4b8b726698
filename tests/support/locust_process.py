"""Locust in a process of its own: started as ``python -m locust``, or forked where that makes no difference.

Most of a start's time is imports, which a process forked by ``fork_server.py`` does not repeat. Of a ``Popen`` of ours
only the start differs. The process is the test's child, has its own signals, streams, environment and directory, and
ends as the interpreter ends. Only /proc/PID/cmdline and /proc/PID/environ are the server's: a test that looks at those
starts ``LOCUST`` with ``subprocess``.
"""

import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

LOCUST = [sys.executable, "-m", "locust"]

_PR_SET_CHILD_SUBREAPER = 36
"""Of sys/prctl.h."""
_READ_AT_START = ("PYTHON", "LC_", "LANG", "LOCUST_", "GEVENT", "OMP_", "OPENBLAS_", "MPL", "LD_", "XDG_CONFIG")
"""How variables begin that the interpreter, Locust or a library reads at its start."""


def popen(command: Sequence[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a command with the options of ``subprocess.Popen``: forked if it is ``LOCUST`` and that is the same."""
    environment = options.get("env") or os.environ
    same = list(command[:3]) == LOCUST and _at_start(environment) == _at_start(_environment_of_server())
    return (_Forked if same and sys.platform == "linux" else subprocess.Popen)(command, **options)


def run_to_end(
    command: Sequence[str], *, timeout: float | None = None, **options: Any
) -> "subprocess.CompletedProcess[Any]":
    """Start a command as :func:`popen` does, and wait for its end; it is killed if that takes longer (seconds).

    ``options``: as for ``subprocess.run``, but for ``check`` and ``input``.
    """
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with popen(command, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@cache
def _environment_of_server() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


class _Forked(subprocess.Popen[Any]):
    """A ``Popen`` whose process is forked by the server instead of by this one."""

    def _execute_child(self, *arguments: Any) -> None:
        asked = inspect.signature(super()._execute_child).bind(*arguments).arguments
        assert asked["preexec_fn"] is None
        assert not asked["pass_fds"]
        pipes = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        streams = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
        order = {
            "arguments": list(map(os.fspath, asked["args"][len(LOCUST) :])),
            "cwd": str(Path(asked["cwd"] or ".").absolute()),
            "environment": dict(asked["env"] or os.environ),
            "new_session": asked["start_new_session"],
        }
        try:
            self.pid = _server().fork(order, [own if own != -1 else n for n, own in enumerate(streams)])
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)


class _Server:
    """The fork server of this process, with which it ends."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("fork_server.py")
        with other:
            number = other.fileno()
            self._process = subprocess.Popen(
                [sys.executable, str(program), str(number), "locust"],  # by which its forks are found
                env=_environment_of_server(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[number],
            )
        self._prctl = ctypes.CDLL(None).prctl

    def fork(self, order: Mapping[str, Any], streams: Sequence[int]) -> int:
        """Return the number of a new child of this process."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], streams)
            pid = int(self._socket.recv(32))
        finally:
            self._prctl(_PR_SET_CHILD_SUBREAPER, 0)  # the orphans of tests are not ours
        assert pid, f"it could not be started: {order}"
        return pid


@cache
def _server() -> _Server:
    return _Server()

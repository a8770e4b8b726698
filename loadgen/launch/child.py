"""A server in a process of its own, which ends with us however we end: it lives while its standard input is open."""

import subprocess
import sys
from collections.abc import Sequence

from loadgen.launch.inheritance import without_secrets


class ChildServer:
    """A module run as a server that prints its address; from construction to :meth:`stop`."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        """Start it and wait for its address; raises ChildProcessError if it ends without one."""
        self.command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(  # noqa: S603 our own modules
            self.command,
            env=without_secrets(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C in the terminal is for us; it still has to answer what is in flight
        )
        assert self._process.stdout is not None
        self.host = self._process.stdout.readline().decode().strip()
        if not self.host.startswith("http"):
            status = self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.stdout.close()
            raise ChildProcessError(f"exit status {status}; to see why, run: {' '.join(self.command)}")

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid)

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

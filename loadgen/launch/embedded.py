"""The embedded engine: a real one, so that a newcomer without a GPU sees the instrument work."""

import importlib.util
import subprocess
import sys

from loadgen.errors import UsageError
from loadgen.launch.embedded_server import ALIAS
from loadgen.launch.random_llama import cached_model

ENGINE = "llamacpp"
"""Its name among the dialects."""

LABEL = "embedded engine, random weights"
"""Said in every output of a run on it."""

SLOTS = 8
CONTEXT = 4096


class EmbeddedEngine:
    """llama.cpp's server in a process of its own, from construction to :meth:`stop`."""

    model = ALIAS

    def __init__(self) -> None:
        """Start it; raises UsageError where it cannot run."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise UsageError(
                "the embedded engine needs xllamacpp, which has no wheel for this platform. "
                "Name a server instead: --host http://HOST:PORT --model NAME."
            )
        server = [sys.executable, "-m", "loadgen.launch.embedded_server"]
        command = [*server, str(cached_model()), str(SLOTS), str(CONTEXT)]
        # Its log goes to a pipe that is read only if it does not come up.
        self._process = subprocess.Popen(  # noqa: S603 our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
        assert self._process.stdout is not None
        self.host = self._process.stdout.readline().decode().strip()
        if not self.host.startswith("http"):
            status = self._process.wait()
            raise UsageError(
                f"the embedded engine did not start (exit status {status}). To see why, run: {' '.join(command)}\n"
                "Or name a server: --host http://HOST:PORT --model NAME."
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return int(self._process.pid)

    def stop(self) -> None:
        """Stop it, and wait until it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

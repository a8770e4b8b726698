"""One thread that polls, and what is kept of the last poll."""

import threading
import time

from loadgen.gpu_exporter.families import text
from loadgen.gpu_exporter.machine import Machine

STALE_INTERVALS, LEAST_STALE_S = 10, 5.0
"""What was told so long ago is not told any more: the driver may hang, over a GPU that is about to be lost."""

END_S = 2.0
"""How long the end waits for a poll."""


class Poller:
    """Polls from its making on, once an interval."""

    def __init__(self, machine: Machine, interval_s: float) -> None:
        """Poll a first time, so that there is something to tell; ``machine`` is open."""
        self._machine = machine
        self._interval_s = interval_s
        self._stale_s = max(STALE_INTERVALS * interval_s, LEAST_STALE_S)
        self._ends = threading.Event()
        self._poll()
        self._thread = threading.Thread(target=self._poll_on, name="poller", daemon=True)
        self._thread.start()

    def text(self) -> bytes | None:
        """Return the metrics of the last poll; None if that is too long ago."""
        at, kept = self._kept
        return kept if time.monotonic() - at < self._stale_s else None

    def close(self) -> None:
        """End, and close NVML, unless the driver hangs."""
        self._ends.set()
        self._thread.join(END_S)
        if not self._thread.is_alive():
            self._machine.close()

    def _poll(self) -> None:
        kept = text(self._machine.poll())
        self._kept = (time.monotonic(), kept)

    def _poll_on(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due + self._interval_s, time.monotonic())  # what was missed is not made up for
            if self._ends.wait(due - time.monotonic()):
                return
            self._poll()

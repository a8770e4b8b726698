"""Hands what a run tells to the process that Prometheus scrapes. It never waits for that process."""

import fcntl
import logging
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from loadgen.errors import OptionError
from loadgen.exporter.feed import Begin, End, Message, Tick, pack
from loadgen.launch.inheritance import without_secrets
from loadgen.live.live import LiveStats
from loadgen.measure.process_report import ProcessReport
from loadgen.measure.verdict import judge_so_far
from loadgen.results.manifest import Manifest
from loadgen.results.summary_schema import VerdictSummary
from loadgen.results.text import subject_of_manifest
from loadgen.scenario import Scenario, parse_address

logger = logging.getLogger(__name__)

LINGER_S = 65.0
"""The exporter stays no longer once we are done."""

FLUSH_S = 3.0
"""So long it may take to read what is left to tell, or to end where it has been given up."""

_PAUSE_S = 0.02
_PIPE_BYTES = 1 << 20
_MOST_PENDING = 64 << 20
"""Bytes that wait for a process that does not read; beyond it it is given up."""


class Exporter:
    """A process that serves metrics; where it fails, the run goes on without."""

    def __init__(self, scenario: Scenario) -> None:
        """Start it; raises OptionError where it cannot listen."""
        address = parse_address(scenario.metrics)
        assert address is not None
        command = [sys.executable, "-m", "loadgen.exporter", address[0], str(address[1]), scenario.metrics_names]
        self._process = subprocess.Popen(  # noqa: S603 our own module
            command,
            env=without_secrets(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for us: what is told last comes after it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = self._process.stdout.readline().decode().strip()
        if not said.startswith("http"):
            self._process.communicate()
            raise OptionError(
                f"--metrics {scenario.metrics}: {said or 'the exporter does not start'}; 'off' does without."
            )
        self.url = f"{said}/metrics"
        self._pipe = self._process.stdin.fileno()
        os.set_blocking(self._pipe, False)
        with suppress(OSError):  # more than the system allows to a user
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._pending = bytearray()
        self.lost = False
        """It has been given up."""
        taken = said.rpartition(":")[2] != str(address[1]) and address[1] != 0
        logger.info("Metrics: %s%s", self.url, f" ({address[1]} is taken)" if taken else "")

    def begin(self, manifest: Manifest) -> None:
        """Tell that a run begins."""
        arrivals = manifest.arrivals
        self._tell(
            Begin(
                run_id=manifest.run_id,
                model=manifest.model,
                engine=manifest.engine,
                endpoint=manifest.host,
                run_kind=manifest.kind,
                dataset=str(manifest.dataset.get("name")),
                reservation=", ".join(subject_of_manifest(manifest).reservations),
                slo=manifest.scenario.get("slo"),
                price_per_gpu_hour=manifest.scenario.get("price_per_gpu_hour"),
                rate=None if arrivals is None else arrivals.rate,
                at=manifest.anchor["realtime_ns"] / 1e9,
            )
        )

    def report(self, report: ProcessReport) -> None:
        """Pass a process's report on."""
        self._tell(report)

    def tick(self, live: LiveStats, *, users: int | None, workers: int, lost: Sequence[str]) -> None:
        """Tell how things are."""
        try:
            verdict, checks = judge_so_far(live.so_far(lost))
        except (ArithmeticError, ValueError) as error:
            self._give_up(f"the checks cannot be made ({error})")
            return
        self._tell(
            Tick(
                at=time.time(),
                state=live.state,
                users=users if live.concurrency is None else live.concurrency,
                step=live.step,
                verdict=verdict.value,
                checks={check.name: check.status.value for check in checks},
                workers=workers,
                lost=len(lost),
            )
        )

    def end(self, verdict: VerdictSummary) -> None:
        """Report that a run is over."""
        self._tell(
            End(verdict=verdict.status.value, checks={check.name: check.status.value for check in verdict.checks})
        )

    def close(self) -> None:
        """Let it end; it stays for one more scrape, if it is scraped. One that hangs is killed."""
        assert self._process.stdin is not None
        due = time.monotonic() + FLUSH_S
        while self._pending and not self.lost and time.monotonic() < due:
            self._flush()
            time.sleep(_PAUSE_S)
        reads = not self._pending
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(LINGER_S if reads and not self.lost else FLUSH_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _tell(self, message: Message) -> None:
        if self.lost:
            return
        try:
            self._pending += pack(message)
        except (ArithmeticError, ValueError, TypeError, struct.error) as error:
            self._give_up(f"what a server sent cannot be passed on ({error})")
            return
        self._flush()

    def _flush(self) -> None:
        """Write what the pipe takes; the rest waits for the next time."""
        try:
            while self._pending:
                written = os.write(self._pipe, self._pending)
                del self._pending[:written]
        except BlockingIOError:
            if len(self._pending) > _MOST_PENDING:
                self._give_up("it does not read what it is told")
        except OSError as error:
            self._give_up(f"it is gone ({error.strerror})")

    def _give_up(self, why: str) -> None:
        logger.warning("No metrics any more: the exporter has a problem, %s. The run goes on.", why)
        self.lost = True
        self._pending.clear()

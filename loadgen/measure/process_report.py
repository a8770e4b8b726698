"""What one process of the load generator reports every second: to the master, to the live view, to the exporter."""

import msgspec

from loadgen.measure.facts import Instrument, UserCode
from loadgen.measure.histogram import Wire
from loadgen.record import RequestRecord


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True, tag="report"):
    """The requests of one process that have ended since its last report, and its state."""

    run_id: str
    worker: int
    """Number of the process; 0 is the master, or the only process."""
    sequence: int
    """1, 2, ...; a report that arrives twice is dropped."""
    records: list[RequestRecord]
    """Without the times of their chunks, if they come from another process."""
    histograms: dict[str, Wire]
    """Of the measured ones, by the key of each exported metric, ms; ITL has the gaps between chunks."""
    started: int
    """Requests since the start of the run, including the warm-up."""
    in_flight: int
    settled_ns: int
    """On the process's clock: all requests handed out before it have ended and are in this report or an earlier one."""
    cpu_share: float | None
    """CPU time over wall time since the last report; 1 is one core."""
    loop_lag: Wire | None = None
    """Lateness of its event loop since the last report, ms."""
    users: int | None = None
    """Locust users that it has now; None where their number says nothing about the load."""
    done: bool = False
    """Whether it has made all planned requests."""
    user_code: UserCode | None = None
    """The tasks of its users since the start of the run; None where nobody counted them."""
    instrument: Instrument | None = None
    """How well the process measured; only in its last report."""

    @property
    def is_last(self) -> bool:
        """Whether no other report of the process follows."""
        return self.instrument is not None

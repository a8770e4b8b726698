"""The records of one process: on disk before its next request starts, then waiting for its next report."""

from loadgen.clock import Ns
from loadgen.record import Phase, RequestRecord
from loadgen.request import Request
from loadgen.results.store import RecordFile
from loadgen.run.runtime import Runtime


class Recorder:
    """Keeps the records of one process, and the requests of which it has none yet."""

    def __init__(self, file: RecordFile, runtime: Runtime) -> None:
        self.in_flight: dict[str, tuple[Ns, Request]] = {}
        """By request id, the earliest time at which each may have been sent, and the request."""
        self.warmed = self.measured = 0
        """Records of the warm-up, and of measured requests."""
        self._file = file
        self._runtime = runtime
        self._unreported: list[RequestRecord] = []

    def expect(self, request: Request) -> None:
        """Note that a request was handed out: from now on it is in flight."""
        self.in_flight[request.id] = max(self._runtime.now(), request.not_before or Ns(0)), request

    def forget(self, request_id: str) -> None:
        """Forget a request that gets no record, because our code failed: nobody has to wait for it."""
        self.in_flight.pop(request_id, None)

    def write(self, record: RequestRecord) -> None:
        """Write a record to disk; raises OSError where the disk does not take it."""
        self._file.append(record)

    def settle(self, record: RequestRecord) -> None:
        """Note that a request has ended; its record is in the next report, also where the disk did not take it."""
        self.in_flight.pop(record.request_id, None)
        self._unreported.append(record)
        self.warmed += record.phase is Phase.WARMUP
        self.measured += record.phase is Phase.MEASURE

    def take_unreported(self) -> list[RequestRecord]:
        """Return the records since the last call."""
        records, self._unreported = self._unreported, []
        return records

    @property
    def settled_ns(self) -> Ns:
        """All requests handed out before this time have ended."""
        return min((at for at, _ in self.in_flight.values()), default=self._runtime.now())

    def restore(self) -> bool:
        """Write the file again if a master has merged it, taking us for lost; return whether it had."""
        return self._file.put_back()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

"""The warm-up: requests before anything counts. It also shows how fast the engine is.

In a closed loop the first requests of the users are the warm-up, whatever they ask. An open loop has no users who could
make it: there, the process that conducts the run sends prompts from outside the sample.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from loadgen.measure.causes import causes
from loadgen.metrics import e2e_ms, tpot_ms
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.run.runtime import Runtime
from loadgen.run.share import RunShare, ShareHost
from loadgen.workload.prompts import Prompt


@dataclass(frozen=True, slots=True)
class WarmUpResult:
    """What the warm-up showed; None where no request showed it."""

    stream_rate: float | None = None
    """Tokens/s of the fastest stream."""
    e2e_ms: float | None = None
    """The longest round trip."""


class WarmUp:
    """Collects the records of a warm-up."""

    def __init__(self, planned: int) -> None:
        self.records: list[RequestRecord] = []
        """Of the requests that have ended."""
        self._planned = planned

    @property
    def is_over(self) -> bool:
        """Whether all planned requests have ended."""
        return len(self.records) >= self._planned

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Take records; those of measured requests are left out."""
        self.records += [r for r in records if r.phase is Phase.WARMUP]

    def failure(self) -> str | None:
        """Return why all requests failed; None where one succeeded, or there were none.

        A server that is not ready would otherwise use up the sample within seconds.
        """
        if not self.records or any(r.outcome is Outcome.OK for r in self.records):
            return None
        requests = "the one request" if len(self.records) == 1 else f"all {len(self.records)} requests"
        return f"{requests} of the warm-up failed: {causes(self.records)[0].message}"

    def result(self) -> WarmUpResult:
        """Return what it showed so far."""
        return WarmUpResult(
            stream_rate=max((1000 / tpot for r in self.records if (tpot := tpot_ms(r)) is not None), default=None),
            e2e_ms=max((e2e for r in self.records if (e2e := e2e_ms(r)) is not None), default=None),
        )


class SentWarmUp(WarmUp):
    """Sends the requests of a warm-up that no user makes, several at a time."""

    def __init__(self, prompts: Sequence[Prompt], share: RunShare, host: ShareHost, runtime: Runtime) -> None:
        super().__init__(len(prompts))
        self._prompts = deque(prompts)
        self._share, self._host = share, host
        self._senders = 0
        self._ended = runtime.event()

    def start(self, at_a_time: int) -> None:
        """Start to send them, at most ``at_a_time`` at a time."""
        self._senders = min(at_a_time, len(self._prompts))
        if not self._senders:
            self._ended.set()
        for _ in range(self._senders):
            self._share.requests.spawn(self._send)

    def wait(self, timeout: float) -> bool:
        """Wait until all have ended; False if the time (seconds) ran out first."""
        return self._ended.wait(timeout)

    def _send(self) -> None:
        try:
            client = self._host.new_client(self._keep)
            while self._prompts and client is not None and not self._share.source.finishing:
                request = self._share.source.warm_up_request(self._prompts.popleft())
                try:
                    client.send(request)
                except Exception as error:  # noqa: BLE001 reported once, there
                    self._share.give_up(request, error)
        except Exception as error:  # noqa: BLE001 reported once, there
            self._host.report_bug(error)
        finally:
            self._senders -= 1
            if not self._senders:
                self._ended.set()

    def _keep(self, record: RequestRecord) -> None:
        self._share.keep(record)
        self.add([record])

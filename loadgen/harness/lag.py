"""How late the event loop is: a greenlet that wants to wake every 10 ms and notes when it does."""

import resource
from array import array

import gevent

from loadgen.clock import MS, now
from loadgen.measure.statistics import percentile
from loadgen.results.manifest import Instrument

PERIOD_MS = 10


class LoopLag:
    """Probes the loop from :meth:`start` to :meth:`stop`."""

    def __init__(self) -> None:
        self._lags = array("d")
        self._greenlet: gevent.Greenlet | None = None
        self._cpu = 0.0

    def start(self) -> None:
        """Begin, forgetting what was measured before."""
        self.stop()
        self._lags = array("d")
        self._cpu = _cpu_seconds()
        self._greenlet = gevent.spawn(self._probe)

    def stop(self) -> Instrument:
        """End, and return what was found."""
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None
        if not self._lags:
            return Instrument()
        return Instrument(
            loop_lag_p50_ms=percentile(self._lags, 0.5),
            loop_lag_p99_ms=percentile(self._lags, 0.99),
            loop_lag_max_ms=max(self._lags),
            cpu_seconds=_cpu_seconds() - self._cpu,
        )

    def _probe(self) -> None:
        due = now() + PERIOD_MS * MS
        while True:
            gevent.sleep(max(0.0, (due - now()) / MS / 1000))
            at = now()
            while due <= at:  # a stall is as many samples as it is periods long, or it would hide behind one
                self._lags.append((at - due) / MS)
                due += PERIOD_MS * MS


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

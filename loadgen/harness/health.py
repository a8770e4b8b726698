"""How well the load generator itself is: how late its loop is, how long the garbage collector stopped it, its CPU."""

import gc
import resource
from array import array
from typing import Any

from gevent.hub import get_hub

from loadgen.clock import MS, SECOND, Ns, now
from loadgen.measure.facts import Instrument
from loadgen.measure.histogram import Histogram, Wire
from loadgen.measure.statistics import percentile

PERIOD_MS = 10

_YOUNG_ONLY = (2_000, 1_000, 1_000_000)
"""Thresholds of the collector's three generations during a run: collections so small that none stops the users for a
millisecond."""


class Health:
    """Watches this process from :meth:`start` to :meth:`stop`, and keeps the garbage collector quiet meanwhile.

    The collector leaves alone the objects that exist at the start, and looks at young ones only: a full collection
    stops all users for tens of milliseconds, and requests leave no cycles behind.
    """

    def __init__(self) -> None:
        self._timer: Any = None
        self._lags = array("d")
        self._due = self._began = Ns(0)
        self._cpu = 0.0
        self._pauses = array("d")
        self._pause_began = Ns(0)
        self._told = 0
        self._gc_thresholds = gc.get_threshold()

    def start(self) -> None:
        """Start, forgetting what was measured before."""
        self.stop()
        gc.collect()
        gc.freeze()
        self._gc_thresholds = gc.get_threshold()
        gc.set_threshold(*_YOUNG_ONLY)
        self._lags, self._pauses = array("d"), array("d")
        self._told = 0
        self._cpu, self._began = _cpu_seconds(), now()
        self._due = Ns(self._began + PERIOD_MS * MS)
        self._timer = get_hub().loop.timer(PERIOD_MS / 1000, PERIOD_MS / 1000)
        self._timer.start(self._probe, update=True)
        gc.callbacks.append(self._collected)

    def stop(self) -> Instrument:
        """Stop, and return the figures; they are absent if it was not started, or has been stopped before."""
        if self._timer is None:
            return Instrument()
        self._timer.close()
        self._timer = None
        gc.callbacks.remove(self._collected)
        gc.set_threshold(*self._gc_thresholds)
        gc.unfreeze()
        cpu, wall = _cpu_seconds() - self._cpu, (now() - self._began) / SECOND
        return Instrument(
            loop_lag_p50_ms=percentile(self._lags, 0.5) if self._lags else None,
            loop_lag_p99_ms=percentile(self._lags, 0.99) if self._lags else None,
            loop_lag_max_ms=max(self._lags, default=None),
            cpu_seconds=cpu,
            cpu_share=cpu / wall if wall > 0 else None,
            gc_pauses=len(self._pauses),
            gc_longest_ms=max(self._pauses, default=None),
            gc_total_ms=sum(self._pauses) if self._pauses else None,
        )

    def recent(self) -> Wire:
        """Return the lateness of the loop since this was asked last, ms."""
        lags = Histogram()
        lags.add(self._lags[self._told :])
        self._told = len(self._lags)
        return lags.to_wire()

    def _probe(self) -> None:
        at = now()
        while self._due <= at:  # a stall is as many samples as it is periods long, or it would hide behind one
            self._lags.append((at - self._due) / MS)
            self._due = Ns(self._due + PERIOD_MS * MS)

    def _collected(self, phase: str, _: object) -> None:
        if phase == "start":
            self._pause_began = now()
        elif self._pause_began:
            self._pauses.append((now() - self._pause_began) / MS)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

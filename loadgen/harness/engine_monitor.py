"""What the engine itself measures: counters before the first request and after the last, its load, its GPUs' energy."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

import gevent
from gevent import Timeout, get_hub

from loadgen.clock import now
from loadgen.engines.engine import Metrics
from loadgen.launch.gpus import energy
from loadgen.measure.counters import parse, parse_load
from loadgen.measure.energy import EnergySample
from loadgen.measure.facts import EngineCounters, EngineSample
from loadgen.protocol.client import Settings
from loadgen.results.launched import Launched
from loadgen.run.prepare import Prepared
from loadgen.wire.fault import WireError
from loadgen.wire.get import get
from loadgen.wire.waiting import Waiter

if TYPE_CHECKING:
    from gevent.event import AsyncResult

COUNTERS_TIMEOUT_S = 5.0

PERIOD_S = 1.0
"""GPUs are asked this often."""

LOAD_PERIOD_S = 5.0
"""The engine is asked for its load this often: as often as a Prometheus would, and for it that is nothing."""

MOST_SAMPLES = 1800
"""Beyond it every second sample is dropped, and half as many are taken from then on."""

_LAST_SAMPLE_S = 5.0
_OK = 200


_S = TypeVar("_S")


class _Samples(Generic[_S]):
    """Samples that are taken every so often: less often once there are many, so that they stay few."""

    def __init__(self, period_s: float) -> None:
        self.taken: list[_S] = []
        self._period_s = period_s
        self._due = 0.0

    def is_due(self) -> bool:
        """Whether it is time for the next sample; if so, the one after it is due a period later."""
        at = time.monotonic()
        if at < self._due:
            return False
        self._due = at + self._period_s
        return True

    def add(self, sample: _S | None) -> None:
        """Add a sample; None if there was none."""
        if sample is not None:
            self.taken.append(sample)
        if len(self.taken) > MOST_SAMPLES:
            self.taken = self.taken[::2]
            self._period_s *= 2


class EngineMonitor:
    """Monitors the engine of one run.

    The driver of the GPUs is asked in a thread: opening it takes longer than a token may be late.
    """

    def __init__(self, prepared: Prepared, waiter: Waiter) -> None:
        self._settings, self._metrics, self._launched = prepared.settings, prepared.metrics, prepared.launched
        self._waiter = waiter
        self._asked: AsyncResult | None = None
        self._energy = _Samples[EnergySample](PERIOD_S)
        self._has_metrics = False
        self._reading: gevent.Greenlet | None = None
        self._loads = _Samples[EngineSample](LOAD_PERIOD_S)

    def read_counters(self) -> EngineCounters | None:
        """Read its counters; None where it has none, or none that are known here."""
        counters = read_counters(self._settings, self._metrics, self._waiter)
        self._has_metrics = self._has_metrics or counters is not None
        return counters

    def sample(self) -> None:
        """Ask the engine and its GPUs if it is time, and take what they answered meanwhile."""
        self._sample_load()
        if self._asked is not None:
            if not self._asked.ready():
                return
            self._take(self._asked.get())
        if self._energy.is_due():
            self._asked = self._ask()

    def energy(self) -> list[EnergySample]:
        """Take a last sample, and return all."""
        for wanted in (self._asked, self._ask()):
            if wanted is not None:
                with suppress(Timeout):
                    self._take(wanted.get(timeout=_LAST_SAMPLE_S))
        self._asked = None
        return self._energy.taken

    def loads(self) -> list[EngineSample]:
        """Return the samples of the engine's load."""
        if self._reading is not None:
            self._reading.kill()
        return self._loads.taken

    def _sample_load(self) -> None:
        """Read the engine's load in a greenlet, one at a time, if it reported anything before the run."""
        is_free = self._reading is None or self._reading.ready()
        if self._has_metrics and is_free and self._loads.is_due():
            self._reading = gevent.spawn(self._read_load)

    def _read_load(self) -> None:
        assert self._metrics is not None
        text = read_metrics(self._settings, self._metrics, self._waiter)
        if text is not None:
            self._loads.add(parse_load(text, now(), self._metrics.load, self._metrics.load_shares))

    def _ask(self) -> "AsyncResult":
        return get_hub().threadpool.spawn(energy_of, self._launched)

    def _take(self, sample: EnergySample | None) -> None:
        self._asked = None
        self._energy.add(sample)


def read_counters(settings: Settings, metrics: Metrics | None, waiter: Waiter) -> EngineCounters | None:
    """Return what the engine's metrics say now; None where it has none, or none that are known here."""
    text = None if metrics is None else read_metrics(settings, metrics, waiter)
    return None if metrics is None or text is None else parse(text, now(), metrics.counters)


def read_metrics(settings: Settings, metrics: Metrics, waiter: Waiter) -> str | None:
    """Return what the engine's metrics route answers; None where it has none."""
    try:
        reply = get(
            settings.target,
            settings.target.unversioned_path_of(metrics.path),
            waiter,
            timeout=COUNTERS_TIMEOUT_S,
            headers=settings.headers,
            secrets=settings.secrets,
        )
    except WireError:
        return None
    return reply.body.decode(errors="replace") if reply.status == _OK else None


def energy_of(launched: Launched | None) -> EnergySample | None:
    """Ask the GPUs of an engine that was started here; None where there are none, or none answers."""
    if launched is None or not launched.gpus:
        return None
    joules, watts = energy([gpu.index for gpu in launched.gpus])
    return None if joules is None and watts is None else EnergySample(now(), joules, watts)

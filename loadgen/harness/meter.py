"""Asks an engine's GPUs once a second what they have used."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from gevent import Timeout, get_hub

from loadgen.clock import now
from loadgen.launch.gpus import energy
from loadgen.measure.energy import EnergySample
from loadgen.results.launched import Launched

if TYPE_CHECKING:
    from gevent.event import AsyncResult

PERIOD_S = 1.0
_PATIENCE_S = 5.0
MOST_SAMPLES = 1800
"""Beyond it every second one is dropped, and from then on half as many are taken."""


def energy_of(launched: Launched | None) -> EnergySample | None:
    """Ask the GPUs of an engine that was started here; None where there are none, or none says anything."""
    if launched is None or not launched.gpus:
        return None
    joules, watts = energy([gpu.index for gpu in launched.gpus])
    return None if joules is None and watts is None else EnergySample(now(), joules, watts)


class Meter:
    """The samples of one run. The driver is asked in a thread: opening it takes longer than a token may be late."""

    def __init__(self, ask: Callable[[], EnergySample | None]) -> None:
        self._ask = ask
        self._asked: AsyncResult | None = None
        self._samples: list[EnergySample] = []
        self._period = PERIOD_S
        self._due = 0.0

    def tick(self) -> None:
        """Ask, if it is time, and take what was answered meanwhile."""
        if self._asked is not None:
            if not self._asked.ready():
                return
            self._take(self._asked.get())
        at = time.monotonic()
        if at >= self._due:
            self._due = at + self._period
            self._asked = get_hub().threadpool.spawn(self._ask)

    def end(self) -> list[EnergySample]:
        """Take the last sample, and return all."""
        for wanted in (self._asked, get_hub().threadpool.spawn(self._ask)):
            if wanted is not None:
                with suppress(Timeout):
                    self._take(wanted.get(timeout=_PATIENCE_S))
        self._asked = None
        return self._samples

    def _take(self, sample: EnergySample | None) -> None:
        self._asked = None
        if sample is not None:
            self._samples.append(sample)
        if len(self._samples) > MOST_SAMPLES:
            self._samples = self._samples[::2]
            self._period *= 2

"""When an open loop's requests are due: one absolute schedule, of which each worker takes its part.

A schedule depends on process, rate, cv and seed alone. It is never rescaled to meet a number or a duration: that of a
shorter run is the beginning of that of a longer one.
"""

import random
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import count, islice
from typing import cast

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import SECOND
from loadgen.scenario import ArrivalProcess, Scenario

BLOCK = 4_096
"""Gaps drawn at once: enough that each costs little, few enough that users wait less than a millisecond for them."""


def arrival_times(scenario: Scenario) -> Iterator[int]:
    """Give the times at which an open loop's requests are due, ns from the epoch, over all processes."""
    assert scenario.rate is not None
    return schedule(cast("ArrivalProcess", scenario.arrivals), scenario.rate, scenario.cv, scenario.seed)


def schedule(process: ArrivalProcess, rate: float, cv: float, seed: int) -> Iterator[int]:
    """Give the times of ``rate`` requests per second, ns from the epoch, without end.

    ``constant``: k / rate for k = 0, 1, 2, ... ``poisson``: exponential gaps. ``gamma``: gamma gaps of shape 1 / cv².
    The two random ones begin with a gap, so for all three ``rate * t`` requests are expected in the first t seconds
    (for gamma as t grows). ``cv`` is read for ``gamma`` only.
    """
    if process == "constant":
        return _evenly(Fraction(str(float(rate))))
    # The streams of RandomState are frozen (NEP 19), those of Generator are not: with it, hosts with two versions of
    # numpy would follow two schedules.
    source = np.random.RandomState(random.Random(f"{seed}/schedule").getrandbits(32))
    shape = 1.0 if process == "poisson" else cv**-2
    scale = SECOND / (rate * shape)
    return _cumulated(source.standard_gamma(shape, BLOCK) * scale for _ in count())


def shard(times: Iterable[int], number: int, shards: int) -> Iterator[tuple[int, int]]:
    """Give every ``shards``-th time from the ``number``-th on, counted from 0, with its index in the whole schedule.

    Shards are disjoint, and together they are the schedule whatever their number.
    """
    return islice(enumerate(times), number, None, shards)


def _evenly(rate: Fraction) -> Iterator[int]:
    """Give k / rate, rounded down to a nanosecond: each from its k, so that nothing adds up."""
    return (k * SECOND * rate.denominator // rate.numerator for k in count())


def _cumulated(blocks: Iterable[NDArray[np.float64]]) -> Iterator[int]:
    """Give the sums of all gaps so far, rounded down to a nanosecond.

    Whole nanoseconds before a block are kept as an integer: the floats stay small, as exact after a day as at first.
    """
    whole, rest = 0, 0.0
    for gaps in blocks:
        sums = rest + np.cumsum(gaps)
        floors = np.floor(sums)
        yield from [whole + int(floor) for floor in floors.tolist()]
        whole += int(floors[-1])
        rest = float(sums[-1] - floors[-1])

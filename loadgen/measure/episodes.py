"""How often an open loop's run has seen its queue come and go, and so whether its latencies can have intervals.

Near capacity a queue is short most of the time and long now and then. The latencies of a run that has seen it long a
few times hang on these few: no look at their own scatter shows what other runs see.
"""

import numpy as np

from loadgen.measure.load import Series

ENOUGH = 15.0
"""Fewest episodes for an interval of a latency. From ten on, 64 to 73 of 100 nominal 95 % intervals held for the E2E of
10,000 requests at 0.9 of an M/M/16 queue's capacity, and 78 for the mean TTFT of 1,000 at 0.5."""


def episodes(in_flight: Series) -> float:
    """Return the effective number of episodes in the requests in flight, over equally spaced times.

    An episode lasts from one crossing of the mean upwards to the next one downwards, and weighs as much as it adds to
    the mean: its area w above it. Episodes of equal weight count as one each, and a hundred small ones beside a large
    one hardly at all: (sum w)^2 / sum w^2, the effective size of weighted samples (L. Kish, Survey Sampling, 1965).
    """
    above = np.maximum(in_flight - in_flight.mean(), 0.0)
    begins = np.flatnonzero(np.diff((above > 0).astype(int), prepend=0) == 1)
    if not len(begins):
        return 0.0
    weights = np.add.reduceat(above, begins)
    return float(weights.sum() ** 2 / (weights @ weights))

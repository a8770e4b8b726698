"""How often a queue was long, and what follows for the intervals of an open loop."""

import sys

import numpy as np
import pytest
from conftest import ROOT

from loadgen.measure.episodes import ENOUGH, episodes
from loadgen.measure.load import Spans, Window, edges_of

sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks.simulators.loads import open_loop, poisson
from benchmarks.simulators.servers import Pool


def test_equal_episodes_count_as_one_each() -> None:
    for number in (1, 3, 12):
        series = np.tile([1.0] * 10 + [5.0] * 4, number)
        assert episodes(series) == pytest.approx(number)


def test_small_episodes_beside_a_large_one_hardly_count() -> None:
    quiet = np.tile([1.0, 1.2], 200)
    quiet[100:140] = 50.0
    assert episodes(quiet) == pytest.approx(1)


def test_a_load_that_never_changes_has_none() -> None:
    assert episodes(np.full(400, 3.0)) == 0.0


@pytest.mark.parametrize(("load", "enough"), [(0.5, True), (0.9, False)])
def test_a_queue_of_ten_thousand_requests_was_seen_often_enough_only_far_from_capacity(
    load: float, *, enough: bool
) -> None:
    rng = np.random.default_rng(5)
    times = poisson(16 * load, 600.0, rng)
    records = open_loop(Pool(16, 1.0, exponential=True), times, rng)
    whole = Window(0, int(times[-1]))
    found = episodes(Spans.of(records).in_flight(edges_of(whole, whole.end // 400)))
    assert (found >= 1.5 * ENOUGH) is enough

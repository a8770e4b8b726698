"""One user's answers, one after another: the mean of their speeds, and the speed of all together."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from benchmarks.cells.cell import Cell
from benchmarks.simulators import runs as simulated
from benchmarks.simulators.loads import ClosedLoop
from benchmarks.simulators.servers import Batching, Model
from benchmarks.simulators.speeds import Wandering
from loadgen import metrics
from loadgen.clock import SECOND
from loadgen.engines.simulated.batching import Profile
from loadgen.record import RequestRecord
from loadgen.results.summary import summarise

LENGTHS = (30, 100, 1_000)
ANSWER_S = 1.5


def one_user(cv: float) -> Batching:
    """Return an engine whose answers take 200 ms and then 20 ms a token, 64 tokens on average."""
    return Batching(Profile(a=20.0, b=0.0, prefill_ms=200.0, batch=1), 64, cv=cv)


_STEADY = one_user(1.0)
MODELS: Mapping[str, Model] = {
    "lengths of CV 1": _STEADY,
    "and it wanders by 5 % over 20 answers": Wandering(_STEADY, 0.05, 20 * ANSWER_S),
}
FIGURES = {"mean": "tokens_per_second_mean", "total": "tokens_per_second_total"}

TRUTH_ANSWERS = 100_000
_SEED = 2028


def measured(name: str, n: int, runs: int, rng: np.random.Generator) -> Mapping[str, Cell]:
    """Play runs of n answers."""
    exact = truth(MODELS[name])
    cells = {figure: Cell() for figure in FIGURES}
    for _ in range(runs):
        records = answers(MODELS[name], n, rng)
        found = summarise(simulated.speed(records), records).speed
        for figure, key in FIGURES.items():
            speed = getattr(found, key)
            cells[figure].add(speed.value, speed.ci95, exact[figure])
    return cells


def answers(model: Model, n: int, rng: np.random.Generator) -> list[RequestRecord]:
    """Return the first n answers to one user."""
    loop = ClosedLoop(model, rng)
    records: list[RequestRecord] = []
    loop.set_users(1, 0.0, 0.0)
    while len(records) < n:
        records += loop.run_until(loop.now_ns / SECOND + 5 * ANSWER_S)
    return records[:n]


@cache
def truth(model: Model) -> Mapping[str, float]:
    """Return both readings of the speed, tokens/s, and requests/min, of one long run."""
    records = answers(model, TRUTH_ANSWERS, np.random.default_rng(_SEED))
    speeds: Sequence[float] = [speed for r in records if (speed := metrics.tokens_per_second(r)) is not None]
    tokens, ms = sum(r.output_tokens or 0 for r in records), sum(metrics.e2e_ms(r) or 0.0 for r in records)
    return {
        "mean": float(np.mean(speeds)),
        "total": 1e3 * tokens / ms,
        "requests/min": 60e3 * len(records) / ms,
    }

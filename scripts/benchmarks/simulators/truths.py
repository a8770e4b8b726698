"""What is true of the simulated servers: in closed form where there is one, or else of one long run."""

from dataclasses import replace
from functools import cache

import numpy as np

from benchmarks.simulators.loads import ClosedLoop
from benchmarks.simulators.servers import Batching, Model, Pool
from benchmarks.simulators.speeds import Disturbed, StartUp, Wandering

_ANSWERS = 200_000
"""Of the long run. It counts tokens, of which an engine gives as many a second whatever the lengths of its answers."""
_TRIPS_BEFORE = 20
"""Round trips that do not count."""
_SEED = 2026


@cache
def throughput(model: Model, users: int) -> float:
    """Return the requests/s of so many users in the long run.

    Of a disturbed server it is that at speed 1, and that of a window this times :func:`.speeds.mean_speed` in it.
    """
    if isinstance(model, Wandering | Disturbed | StartUp):
        return throughput(model.of, users)
    if isinstance(model, Pool):
        return min(users, model.servers) / model.mean_s
    assert isinstance(model, Batching)
    return _of_full_batches(model) if _is_always_full(model, users) else _of_a_long_run(model, users)


def waits(servers: int, load: float) -> float:
    """Return the share of requests that wait in an M/M/c queue (Erlang C); ``load``: arrivals by what can be served."""
    offered = servers * load
    blocked = 1.0  # Erlang B, server by server
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - load * (1 - blocked))


def mean_wait_s(pool: Pool, rate: float) -> float:
    """Return the mean wait of Poisson arrivals for a pool with exponential service."""
    assert pool.exponential
    load = rate * pool.mean_s / pool.servers
    return waits(pool.servers, load) * pool.mean_s / (pool.servers * (1 - load))


def _is_always_full(model: Batching, users: int) -> bool:
    """Whether the batch is full in every step: even after all of it has ended at once, enough wait to fill it again.

    And the KV cache is never what keeps them waiting, unless all are of one length.
    """
    longest = model.tokens * (100 if model.cv else 1)
    running = model.profile.running_at_most(model.prompt, round(longest))
    return users >= 2 * running and (not model.cv or running == model.profile.batch)


def _of_full_batches(model: Batching) -> float:
    """Return what an engine serves whose batch is full in every step.

    A request takes its prefill, and of each of the steps after its first token its share. So it is the closed form of
    the mean length, for whatever lengths.
    """
    profile, tokens = model.profile, model.mean_tokens
    if not model.cv:
        return profile.requests_per_second(model.prompt, round(tokens))
    prefill = profile.prefill_ms + profile.prefill_ms_per_token * model.prompt
    step = profile.a + profile.b * profile.batch
    return 1000 / (prefill + (tokens - 1) * step / profile.batch)


def _of_a_long_run(model: Batching, users: int) -> float:
    running = min(users, model.profile.running_at_most(model.prompt, round(model.tokens)))
    about = _of_full_batches(replace(model, profile=replace(model.profile, batch=running)))
    trip_s = users / about
    before_s, seconds = _TRIPS_BEFORE * trip_s, _ANSWERS / about
    loop = ClosedLoop(model, np.random.default_rng(_SEED))
    loop.set_users(users, 0.0, trip_s)
    loop.run_until(before_s)
    tokens = sum(r.output_tokens or 0 for r in loop.run_until(before_s + seconds))
    return tokens / model.mean_tokens / seconds

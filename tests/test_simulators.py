"""The simulated servers and loads that statistics are tried on: they give what is known to be true of them."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
import pytest
from conftest import ROOT

from loadgen.clock import SECOND
from loadgen.engines.simulated.batching import Engine, Profile, Sequence
from loadgen.measure.load import peak_in_flight
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord

sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks.simulators import truths
from benchmarks.simulators.loads import ClosedLoop, closed_loop, constant, gamma, open_loop, poisson
from benchmarks.simulators.servers import Batching, Model, Pool, Request, Server
from benchmarks.simulators.speeds import Disturbed, Drift, Jump, Oscillation, Stall, StartUp, Wandering, mean_speed
from benchmarks.simulators.truths import mean_wait_s, throughput, waits

CAPPED = Profile(a=10.0, b=0.1, prefill_ms=5.0, batch=16)
UNCAPPED = replace(CAPPED, batch=10**6)
MODELS: dict[str, Model] = {
    "pool": Pool(16, 1.0),
    "pool, always the same": Pool(16, 1.0, cv=0),
    "pool, exponential": Pool(16, 1.0, exponential=True),
    "batches": Batching(CAPPED, 64, cv=1.0),
    "batches without a cap": Batching(UNCAPPED, 64, cv=0.5),
    "batches, prefill in no time": Batching(replace(CAPPED, prefill_ms=0.0), 64, cv=1.0),
    "batches in a small cache": Batching(replace(CAPPED, kv_tokens=700), 64, cv=1.0),
    "wandering pool": Wandering(Pool(16, 1.0)),
    "wandering batches": Wandering(Batching(CAPPED, 64, cv=1.0)),
    "drift": Disturbed(Pool(16, 1.0), Drift(-0.2, 60)),
    "jump": Disturbed(Batching(CAPPED, 64, cv=1.0), Jump(-0.2, 30)),
    "oscillation": Disturbed(Batching(CAPPED, 64), Oscillation()),
    "stall": Disturbed(Batching(replace(CAPPED, prefill_ms=0.0), 64, cv=1.0), Stall(10)),
    "start-up": StartUp(Batching(CAPPED, 64, cv=1.0), 20),
    "start-up that wanders": Wandering(StartUp(Pool(16, 1.0), 20)),
}


@dataclass(frozen=True)
class Stepped:
    """The engine itself, token by token, in place of the one that jumps from one change of its batch to the next."""

    of: Batching

    def begin(self, rng: np.random.Generator) -> Server:
        return SteppedServer(self.of, rng)


class SteppedServer:
    def __init__(self, batching: Batching, rng: np.random.Generator) -> None:
        self.engine = Engine(batching.profile)
        self.prompt = batching.prompt
        self.lengths = batching.lengths(rng)

    @property
    def due(self) -> int | None:
        return self.engine.due

    def submit(self, request: Request, now: int) -> None:
        request.tokens = next(self.lengths)
        self.engine.submit(Sequence(self.prompt, request.tokens, owner=request), now)

    def proceed(self) -> list[Request]:
        now = self.engine.due
        assert now is not None
        ended = []
        for sequence in self.engine.end_step(now):
            request = sequence.owner
            assert isinstance(request, Request)
            if sequence.produced == 1:
                request.first = now
            if sequence.produced == sequence.output:
                request.ended = now
                ended.append(request)
        return ended


@dataclass(frozen=True)
class Watched:
    """A model that counts the requests of each user that it has."""

    of: Model

    def begin(self, rng: np.random.Generator) -> "WatchedServer":
        return WatchedServer(self.of.begin(rng))


class WatchedServer:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.users: Counter[int] = Counter()

    @property
    def due(self) -> int | None:
        return self.server.due

    def submit(self, request: Request, now: int) -> None:
        assert request.sent == now
        self.users[request.user] += 1
        assert self.users[request.user] == 1
        self.server.submit(request, now)

    def proceed(self) -> list[Request]:
        ended = self.server.proceed()
        self.users.subtract(request.user for request in ended)
        return ended


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def sweep(model: Model, looks_s: float = 0.5) -> Iterator[tuple[ClosedLoop, list[RequestRecord]]]:
    """Play steps of 4, 40 and 8 users, of 10 s each, and drain; yield what each look gives."""
    loop = ClosedLoop(model, rng())
    for step, users in enumerate((4, 40, 8)):
        loop.set_users(users, step * 10.0, 1.5)
        for look in np.arange(looks_s, 10.0 + looks_s, looks_s):
            yield loop, loop.run_until(step * 10.0 + look)
    yield loop, loop.drain()


def per_second(records: list[RequestRecord], start_s: float, end_s: float) -> float:
    """Return the answers that ended in a window, a second."""
    ended = sum(start_s * SECOND < (r.end_ns or 0) <= end_s * SECOND for r in records)
    return ended / (end_s - start_s)


def standard_error(values: list[float], parts: int = 25) -> float:
    """Return that of their mean, from the means of parts that are longer than their memory."""
    means = [part.mean() for part in np.array_split(np.array(values), parts)]
    return float(np.std(means, ddof=1) / np.sqrt(parts))


def test_requests_wait_as_long_as_erlang_says() -> None:
    pool = Pool(16, 1.0, exponential=True, lead=0.0)
    truth = mean_wait_s(pool, 0.8 * 16)
    states = [12.8**n / factorial(n) for n in range(16)] + [12.8**16 / factorial(16) / (1 - 0.8)]
    assert truth == pytest.approx(states[-1] / sum(states) / (16 * (1 - 0.8)))
    records = open_loop(pool, poisson(0.8 * 16, 4_000, rng(2)), rng(3))
    known = [(r.first_token_ns, r.sent_ns) for r in records[1_000:]]
    found = [(first - sent) / SECOND for first, sent in known if first is not None and sent is not None]
    error = standard_error(found)
    assert error < 0.15 * truth
    assert abs(np.mean(found) - truth) < 3 * error
    assert np.mean(np.array(found) > 0) == pytest.approx(waits(16, 0.8), rel=0.15)


def test_one_server_waits_with_the_probability_of_its_load() -> None:
    assert waits(1, 0.7) == pytest.approx(0.7)
    assert mean_wait_s(Pool(1, 2.0, exponential=True), 0.35) == pytest.approx(2 * 0.7 / 0.3)


@pytest.mark.parametrize("pool", [Pool(16, 0.5, cv=0), Pool(16, 0.5), Pool(16, 0.5, exponential=True)])
@pytest.mark.parametrize("users", [8, 64])
def test_a_pool_in_a_closed_loop_serves_what_its_servers_can(pool: Pool, users: int) -> None:
    truth = throughput(pool, users)
    assert truth == min(users, 16) / 0.5
    records = closed_loop(pool, users, 120, rng(4))
    found, answers = per_second(records, 20, 120), 100 * truth
    assert found == pytest.approx(truth, rel=4 / np.sqrt(answers) + users / answers)


def test_service_has_the_mean_and_the_variation_that_were_asked_for() -> None:
    for pool, cv in ((Pool(10**4, 0.1, cv=0.5), 0.5), (Pool(10**4, 0.1, exponential=True), 1.0)):
        records = open_loop(pool, constant(1000, 8), rng(5))
        takes = [((r.end_ns or 0) - (r.sent_ns or 0)) / SECOND for r in records]
        assert np.mean(takes) == pytest.approx(0.1, rel=0.04)
        assert np.std(takes) / np.mean(takes) == pytest.approx(cv, rel=0.1)
        assert np.mean([r.output_tokens for r in records]) == pytest.approx(100, rel=0.04)


@pytest.mark.parametrize("profile", [CAPPED, replace(CAPPED, batch=64, kv_tokens=16 * 124)])
def test_batches_of_fixed_lengths_serve_the_closed_form(profile: Profile) -> None:
    model = Batching(profile, 64)
    truth = throughput(model, 64)
    assert truth == profile.requests_per_second(60, 64)
    records = closed_loop(model, 64, 220, rng(6))
    assert per_second(records, 20, 220) == pytest.approx(truth, rel=0.005)


def test_full_batches_of_any_lengths_serve_the_closed_form_of_their_mean() -> None:
    model = Batching(CAPPED, 64, cv=1.0)
    records = closed_loop(model, 64, 420, rng(7))
    tokens = sum(r.output_tokens or 0 for r in records if (r.end_ns or 0) > 20 * SECOND) / 400
    assert tokens / model.mean_tokens == pytest.approx(throughput(model, 64), rel=0.01)


def test_without_a_cap_all_are_in_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truths, "_ANSWERS", 10_000)
    model = Batching(UNCAPPED, 64, cv=0.5)
    records = closed_loop(model, 40, 120, rng(8))
    found = per_second(records, 20, 120)
    assert found > 1.5 * throughput(Batching(CAPPED, 64, cv=0.5), 40)
    assert found == pytest.approx(truths._of_a_long_run(model, 40), rel=0.03)


@pytest.mark.parametrize("cv", [0.0, 0.3, 2.0])
def test_the_mean_of_rounded_lengths_is_known(cv: float) -> None:
    model = Batching(replace(CAPPED, kv_tokens=100), 7.4, cv=cv)
    lengths = [next(drawn) for drawn in [model.lengths(rng(9))] * 100_000]
    assert min(lengths) >= 1
    assert max(lengths) <= 40
    assert np.mean(lengths) == pytest.approx(model.mean_tokens, abs=4 * np.std(lengths) / np.sqrt(len(lengths)))


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if isinstance(model, Batching)])
def test_jumping_from_change_to_change_gives_what_the_engine_gives_token_by_token(name: str) -> None:
    model = MODELS[name]
    assert isinstance(model, Batching)
    assert [r for _, ended in sweep(model) for r in ended] == [r for _, ended in sweep(Stepped(model)) for r in ended]
    for times in (poisson(10.0, 20, rng(10)), constant(100.0, 2)):
        assert open_loop(model, times, rng()) == open_loop(Stepped(model), times, rng())


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_requests_are_answered_after_they_were_sent_one_of_each_user_at_a_time(model: Model) -> None:
    records, settled, now = [], 0, 0
    for loop, ended in sweep(Watched(model)):
        assert all(now < (r.end_ns or 0) <= loop.now_ns for r in ended)
        assert all((r.sent_ns or 0) >= settled for r in ended)
        records += ended
        settled, now = loop.settled_ns, loop.now_ns
    assert settled == now  # drained
    assert len({r.request_id for r in records}) == len(records) > 100
    for r in records:
        assert r.sent_ns is not None
        assert r.first_token_ns is not None
        assert r.last_token_ns is not None
        assert r.end_ns is not None
        assert r.output_tokens is not None
        assert r.sent_ns <= r.first_token_ns <= r.last_token_ns
        assert r.sent_ns < r.last_token_ns == r.end_ns
        assert r.output_tokens >= 1
        assert r.step == max(0, min(2, (r.sent_ns - 1) // (10 * SECOND)))  # what is sent as a step ends is its own
        assert (r.phase, r.outcome, r.counted_by) == (Phase.MEASURE, Outcome.OK, CountedBy.USAGE)
        assert r.scheduled_ns is None
    assert [peak_in_flight([r for r in records if r.step == step]) for step in range(2)] == [4, 40]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_same_seed_gives_the_same_records(model: Model) -> None:
    first, second = (closed_loop(model, 20, 20, rng()) for _ in range(2))
    assert first == second
    times = gamma(5.0, 2.0, 20, rng())
    assert np.array_equal(times, gamma(5.0, 2.0, 20, rng()))
    assert open_loop(model, times, rng()) == open_loop(model, times, rng())


@pytest.mark.parametrize("name", ["pool", "batches", "wandering pool", "wandering batches"])
def test_another_seed_gives_other_records(name: str) -> None:
    assert closed_loop(MODELS[name], 20, 20, rng(1)) != closed_loop(MODELS[name], 20, 20, rng(2))


def test_what_ends_between_looks_is_given_once_however_often_it_is_looked() -> None:
    often, rarely = ([r for _, ended in sweep(MODELS["wandering batches"], s) for r in ended] for s in (0.25, 5.0))
    assert often == rarely


def test_users_who_are_too_many_leave_with_their_answer_and_may_come_back() -> None:
    loop = ClosedLoop(Pool(100, 1.0, cv=0), rng())
    loop.set_users(10, 0.0, 0.5)
    loop.set_users(2, 5.0, 0.5)
    loop.set_users(10, 8.0, 0.5)
    records = loop.run_until(12.0)
    sent = Counter((r.sent_ns or 0) // SECOND for r in records)
    assert [sent[second] for second in (4, 6, 9)] == [10, 2, 10]
    with pytest.raises(ValueError, match="back"):
        loop.run_until(11.0)


def test_an_open_loop_sends_at_its_times_whatever_happens() -> None:
    times = gamma(20.0, 2.0, 1_000, rng())
    records = open_loop(Pool(4, 1.0), times[:200], rng(), step=3)
    assert sorted(r.sent_ns or 0 for r in records) == times[:200].tolist()
    assert all(r.scheduled_ns == r.sent_ns and r.step == 3 for r in records)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(20_000, rel=0.06)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(2.0, rel=0.05)
    assert set(np.diff(constant(20.0, 10))) == {SECOND // 20}


def test_noise_has_the_size_and_the_memory_that_were_asked_for_and_changes_no_mean() -> None:
    records = closed_loop(Wandering(Pool(1, 0.05, cv=0), 0.05, 5.0), 1, 1_000, rng(11))
    speed = 0.05 * SECOND / np.array([(r.end_ns or 0) - (r.sent_ns or 0) for r in records])
    assert speed.mean() == pytest.approx(1.0, abs=0.02)
    assert speed.std() == pytest.approx(0.05, rel=0.25)
    assert np.corrcoef(speed[:-100], speed[100:])[0, 1] == pytest.approx(np.exp(-1), abs=0.2)


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        (Drift(-0.2, 40), [0.975, 0.925, 0.875, 0.825]),
        (Jump(0.3, 20), [1, 1, 1.3, 1.3]),
        (Oscillation(), [1 + 0.6 / np.pi, 1 - 0.6 / np.pi] * 2),
        (Stall(12), [1, 0.8, 1, 1]),
    ],
)
@pytest.mark.parametrize("of", [Pool(16, 0.1, cv=0.1), Batching(Profile(a=4.0, b=0.04, batch=16), 20, cv=0.1)])
def test_disturbances_change_what_they_say(speed: Drift, expected: list[float], of: Model) -> None:
    records = closed_loop(Disturbed(of, speed), 64, 40, rng(12))
    windows = [(start, start + 10) for start in range(0, 40, 10)]
    assert [mean_speed(speed, *window) for window in windows] == pytest.approx(expected, rel=1e-3)
    found = [per_second(records, *window) / throughput(of, 64) for window in windows]
    assert found == pytest.approx(expected, rel=0.03)


def test_nothing_ends_while_a_server_stalls() -> None:
    records = closed_loop(Disturbed(Pool(16, 0.05), Stall(12)), 64, 20, rng())
    assert not [r for r in records if 12 * SECOND + 1 < (r.end_ns or 0) < 14 * SECOND]
    assert max((r.end_ns or 0) - (r.sent_ns or 0) for r in records) > 2 * SECOND


def test_the_first_answers_of_a_start_take_longer() -> None:
    records = closed_loop(StartUp(Pool(16, 1.0, cv=0), 32, slower=5.0), 16, 20, rng())
    takes = [((r.end_ns or 0) - (r.sent_ns or 0)) / SECOND for r in records]
    assert takes[:32] == pytest.approx([5.0] * 32)
    assert takes[32:] == pytest.approx([1.0] * len(takes[32:]))
    assert len(takes) == 32 + 10 * 16

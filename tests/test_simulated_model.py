"""The model of an engine with continuous batching, in simulated time, without sockets."""

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.engines.simulated.batching import (
    ANSWER_TOKENS,
    MS,
    PROFILES,
    SPECIFIED,
    SPECIFIED_THROUGHPUT,
    Engine,
    Profile,
)
from loadgen.engines.simulated.batching import Sequence as Slot
from loadgen.matrix import reference


def run_to_end(profile: Profile, clients: int, prompt: int, output: int, requests: int, factor: float = 1.0) -> float:
    """Play a closed loop; return requests per second behind the first half."""
    engine = Engine(profile, factor)
    now = 0
    ends: list[int] = []
    for _ in range(clients):
        engine.submit(Slot(prompt, output), now)
    while len(ends) < requests:
        assert engine.due is not None
        now = engine.due
        for sequence in engine.end_step(now):
            if sequence.produced == output:
                ends.append(now)
                engine.submit(Slot(prompt, output), now)
    half = len(ends) // 2
    return (len(ends) - half) / ((ends[-1] - ends[half - 1]) / 1e9)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_reaches_the_capacity_of_its_closed_form(name: str) -> None:
    profile = PROFILES[name]
    clients = 2 * profile.running_at_most(60, 64)
    reached = run_to_end(profile, clients, 60, 64, 80 * clients)
    assert reached == pytest.approx(profile.requests_per_second(60, 64), rel=0.02)


def test_each_of_the_three_bounds_is_what_its_name_says() -> None:
    prefill, batch, kv = (PROFILES[name + "-bound"] for name in ("prefill", "batch", "kv"))
    prefill_ms = prefill.prefill_ms + prefill.prefill_ms_per_token * 60
    assert prefill.requests_per_second(60, 16) * prefill_ms / 1000 > 0.9  # of the time goes into prefill
    assert batch.running_at_most(60, 64) == 16
    assert kv.running_at_most(60, 64) == 4000 // 124 < kv.batch


def test_a_time_factor_makes_everything_faster_alike() -> None:
    profile = PROFILES["prefill-bound"]
    assert run_to_end(profile, 8, 60, 16, 400, 50) == pytest.approx(50 * run_to_end(profile, 8, 60, 16, 400), rel=1e-3)


def test_one_user_of_a_profile_gets_the_time_per_token_that_was_specified() -> None:
    engine = Engine(PROFILES["vllm-0.1.3-llama2-70b"])
    engine.submit(Slot(60, 100), 0)
    times = []
    while engine.due is not None:
        now = engine.due
        times += [now for _ in engine.end_step(now)]
    assert len(times) == 100
    per_second = 99e9 / (times[-1] - times[0])
    assert per_second == pytest.approx(17.0, rel=0.01)  # the specification's figure for llama2-70b-chat


@pytest.mark.parametrize("output", [1, 7, 953])
@pytest.mark.parametrize("name", SPECIFIED)
def test_one_user_gets_the_specifications_figure_over_the_whole_round_trip(name: str, output: int) -> None:
    alone = replace(PROFILES[name], batch=1)
    assert output * alone.requests_per_second(60, output) == pytest.approx(SPECIFIED[name], rel=1e-9)
    stepped = run_to_end(PROFILES[name], 1, 60, output, 6)
    assert output * stepped == pytest.approx(SPECIFIED[name], rel=1e-3)


@pytest.mark.parametrize("engine", SPECIFIED_THROUGHPUT)
def test_the_throughput_of_llama2_is_the_one_that_was_published_later(engine: str) -> None:
    profile = PROFILES[f"{engine}/llama2-70b-chat"]
    told = SPECIFIED_THROUGHPUT[engine]
    assert 60 * profile.requests_per_second(60, ANSWER_TOKENS) == pytest.approx(told, rel=1e-3)
    clients = 2 * profile.batch
    assert 60 * run_to_end(profile, clients, 60, ANSWER_TOKENS, 4 * clients) == pytest.approx(told, rel=1e-3)


def test_no_step_of_a_specified_profile_is_free_or_gets_shorter_with_more_requests() -> None:
    assert all(PROFILES[name].a > 0 and PROFILES[name].b >= 0 for name in SPECIFIED)


def test_the_specified_profiles_are_made_from_the_reference_results() -> None:
    speeds = {f"{e}/{m}": r.value for (e, m), r in reference.SPEED.items() if r.since == "specification"}
    assert speeds == SPECIFIED
    throughputs = {e: r.value for (e, m), r in reference.THROUGHPUT.items() if m == "llama2-70b-chat"}
    assert throughputs == SPECIFIED_THROUGHPUT


def test_a_cancelled_request_leaves_its_place() -> None:
    engine = Engine(Profile(a=1, b=0, batch=1))
    first, second = Slot(1, 5), Slot(1, 5)
    engine.submit(first, 0)
    engine.submit(second, 0)
    engine.cancel(first)
    assert engine.due is not None
    engine.end_step(engine.due)
    assert engine.running == [second]
    assert engine.kv_used == 6


def test_a_request_cancelled_in_its_prefill_gets_no_token_and_the_others_go_on() -> None:
    engine = Engine(Profile(a=1, b=0, prefill_ms=10))
    first, second = Slot(1, 5), Slot(1, 5)
    engine.submit(first, 0)
    assert engine.end_step(10 * MS) == [first]
    engine.submit(second, 10 * MS)
    assert engine.end_step(11 * MS) == [first]  # the step that ran; the prefill of the second begins
    engine.cancel(second)
    assert engine.end_step(21 * MS) == []
    assert (engine.due, engine.running, engine.kv_used) == (22 * MS, [first], 6)
    assert engine.end_step(22 * MS) == [first]


def test_a_request_that_can_never_fit_is_refused_and_holds_nobody_up() -> None:
    engine = Engine(Profile(a=1, b=0, kv_tokens=100))
    with pytest.raises(ValueError, match="KV"):
        engine.submit(Slot(50, 51), 0)
    engine.submit(Slot(50, 50), 0)
    assert len(engine.running) == 1


def test_nobody_overtakes_a_long_request_that_waits_for_room() -> None:
    engine = Engine(Profile(a=1, b=0, kv_tokens=100))
    running, long, short = Slot(10, 50), Slot(10, 80), Slot(1, 1)
    for slot in (running, long, short):
        engine.submit(slot, 0)
    ended: list[Slot] = []
    while engine.due is not None:
        ended += [s for s in engine.end_step(engine.due) if s.produced == s.output]
    assert ended[0] is running
    assert short.produced == 1
    assert long.produced == 80


class Arrival(NamedTuple):
    at: int
    prompt: int
    output: int
    cancel_after: int | None
    """Tokens behind which the client goes away."""


profiles = st.builds(
    Profile,
    a=st.floats(0, 5),
    b=st.floats(0, 1),
    prefill_ms=st.floats(0, 5),
    prefill_ms_per_token=st.floats(0, 0.5),
    batch=st.integers(1, 4),
    kv_tokens=st.integers(40, 100),
)
arrivals = st.lists(
    st.builds(Arrival, st.integers(0, 100 * MS), st.integers(0, 20), st.integers(1, 20), st.none() | st.integers(0, 9))
)


@given(profiles, arrivals)
@settings(max_examples=200)
def test_no_request_is_lost_and_the_limits_hold_at_all_times(profile: Profile, plan: list[Arrival]) -> None:
    engine = Engine(profile)
    todo = sorted(plan, key=lambda arrival: arrival.at, reverse=True)
    slots: dict[Slot, Arrival] = {}
    gone: set[Slot] = set()
    now = 0
    while todo or engine.due is not None:
        if todo and (engine.due is None or todo[-1].at <= engine.due):
            arrival = todo.pop()
            slot = Slot(arrival.prompt, arrival.output)
            slots[slot] = arrival
            engine.submit(slot, max(now, arrival.at))
            stepped = [slot] if arrival.cancel_after == 0 else []
        else:
            assert engine.due is not None
            assert engine.due >= now
            now = engine.due
            stepped = engine.end_step(now)
            assert not gone & set(stepped)
        for slot in stepped:
            if slot.produced == slots[slot].cancel_after:
                engine.cancel(slot)
                gone.add(slot)
        assert len(engine.running) <= profile.batch
        assert engine.kv_used == sum(s.prompt + s.output for s in engine.running) <= profile.kv_tokens
    assert (engine.running, list(engine.queue), engine.kv_used) == ([], [], 0)
    assert all(slot.produced == slot.output for slot in slots if slot not in gone)

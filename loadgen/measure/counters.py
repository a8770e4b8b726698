"""The engine's own counters, read from its ``/metrics``; each engine calls them by names of its own."""

import math
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from loadgen.measure.facts import EngineCounters

NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt_tokens": (
        "vllm:prompt_tokens_total",
        "sglang:prompt_tokens_total",
        "tgi_request_input_length_sum",
        "llamacpp:prompt_tokens_total",
        "lmdeploy:prompt_tokens_total",
        "trtllm_prompt_tokens_total",
    ),
    "output_tokens": (
        "vllm:generation_tokens_total",
        "sglang:generation_tokens_total",
        "tgi_request_generated_tokens_sum",
        "llamacpp:tokens_predicted_total",
        "lmdeploy:generation_tokens_total",
        "trtllm_generation_tokens_total",
    ),
    "requests": (
        "vllm:request_success_total",
        "sglang:num_requests_total",
        "tgi_request_success_total",
        "tgi_request_success",
        "trtllm_request_success_total",
        "lmdeploy:request_success_total",
    ),
    "running": (
        "vllm:num_requests_running",
        "sglang:num_running_reqs",
        "tgi_batch_current_size",
        "llamacpp:requests_processing",
        "lmdeploy:num_requests_running",
        "trtllm_num_requests_running",
    ),
    "waiting": (
        "vllm:num_requests_waiting",
        "sglang:num_queue_reqs",
        "tgi_queue_size",
        "llamacpp:requests_deferred",
        "lmdeploy:num_requests_waiting",
        "trtllm_num_requests_waiting",
    ),
    "prefix_hits": (
        "vllm:prefix_cache_hits_total",
        "vllm:gpu_prefix_cache_hits_total",
        "sglang:cached_tokens_total",
    ),
    "prefix_queries": (
        "vllm:prefix_cache_queries_total",
        "vllm:gpu_prefix_cache_queries_total",
        "sglang:prompt_tokens_total",
    ),
}
"""Ours to theirs: vLLM 0.6 to 0.33 (``gpu_prefix_cache`` before 0.9), SGLang 0.5, TGI 3.3 (which leaves out ``_total``,
where the parser puts it), llama.cpp, LMDeploy 0.18, TensorRT-LLM 1.2."""


def parse(exposition: str, at_ns: int) -> EngineCounters | None:
    """Read an exposition, summing over all label sets; None where it names nothing that is known, or is none."""
    sums: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    except (ValueError, KeyError, IndexError):
        return None
    # What is not a number was not told.
    sums = {name: total for name, total in sums.items() if math.isfinite(total)}
    found = {ours: _first(sums, theirs) for ours, theirs in NAMES.items()}
    if all(value is None for value in found.values()):
        return None
    return EngineCounters(at_ns=at_ns, **found)


def _first(sums: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((sums[name] for name in names if name in sums), None)

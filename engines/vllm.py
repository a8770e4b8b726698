"""vLLM of today: an empty role chunk comes together with the first token, usage in a chunk of its own."""

from engines.engine import Engine, Metrics
from loadgen.wire.openai_chat import OpenAIChat

METRICS = Metrics(
    prompt_tokens=("vllm:prompt_tokens_total",),
    output_tokens=("vllm:generation_tokens_total",),
    requests=("vllm:request_success_total",),
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    prefix_hits=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),  # the second before 0.9
    prefix_queries=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
)
"""0.6 to 0.33."""

ENGINE = Engine(
    name="vllm",
    title="vLLM",
    dialect=OpenAIChat(),
    tells=("/version",),
    metrics=METRICS,
    accepts=frozenset({"ignore_eos", "min_tokens", "stream_options"}),
)

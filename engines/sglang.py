"""SGLang: reasoning comes apart from content, in deltas named ``reasoning_content``."""

from engines.engine import Engine, Metrics
from loadgen.wire.openai_chat import OpenAIChat

METRICS = Metrics(
    prompt_tokens=("sglang:prompt_tokens_total",),
    output_tokens=("sglang:generation_tokens_total",),
    requests=("sglang:num_requests_total",),
    running=("sglang:num_running_reqs",),
    waiting=("sglang:num_queue_reqs",),
    prefix_hits=("sglang:cached_tokens_total",),
    prefix_queries=("sglang:prompt_tokens_total",),
)
"""0.5, where it was started with ``--enable-metrics``."""

ENGINE = Engine(
    name="sglang",
    title="SGLang",
    dialect=OpenAIChat(),
    health=None,  # /health generates a token
    metrics=METRICS,
    accepts=frozenset({"ignore_eos", "min_tokens", "stream_options"}),
)

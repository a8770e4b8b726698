"""text-generation-inference since 1.4 on its OpenAI route."""

from engines.engine import Engine, Metrics
from loadgen.wire.openai_chat import OpenAIChat

METRICS = Metrics(
    prompt_tokens=("tgi_request_input_length_sum",),
    output_tokens=("tgi_request_generated_tokens_sum",),
    # It leaves _total out; where the type is told, the parser puts it there.
    requests=("tgi_request_success_total", "tgi_request_success"),
    running=("tgi_batch_current_size",),
    waiting=("tgi_queue_size",),
)
"""3.3."""

ENGINE = Engine(
    name="tgi",
    title="TGI",
    dialect=OpenAIChat(),
    tells=("/info",),
    metrics=METRICS,
    accepts=frozenset({"stream_options"}),
)

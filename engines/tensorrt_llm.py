"""TensorRT-LLM: so far what its metrics are called, for an ``endpoint`` that turns out to be one."""

from engines.engine import Metrics

METRICS = Metrics(
    prompt_tokens=("trtllm_prompt_tokens_total",),
    output_tokens=("trtllm_generation_tokens_total",),
    requests=("trtllm_request_success_total",),
    running=("trtllm_num_requests_running",),
    waiting=("trtllm_num_requests_waiting",),
)
"""1.2."""

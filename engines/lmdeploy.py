"""LMDeploy: so far what its metrics are called, for an ``endpoint`` that turns out to be one."""

from engines.engine import Metrics

METRICS = Metrics(
    prompt_tokens=("lmdeploy:prompt_tokens_total",),
    output_tokens=("lmdeploy:generation_tokens_total",),
    requests=("lmdeploy:request_success_total",),
    running=("lmdeploy:num_requests_running",),
    waiting=("lmdeploy:num_requests_waiting",),
)
"""0.18."""

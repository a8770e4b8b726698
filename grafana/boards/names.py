"""The metrics that there are to ask for, and those that a query asks for."""

import re

from loadgen.metrics import EXPORTED, FROM_SEND

LOADGEN = frozenset(
    {
        "llmload_run_info",
        "llmload_run_start_timestamp_seconds",
        "llmload_run_state",
        "llmload_price_per_gpu_hour",
        "llmload_verdict",
        "llmload_objection",
        "llmload_requests_started_total",
        "llmload_requests_total",
        "llmload_errors_total",
        "llmload_tokens_total",
        "llmload_chunks_total",
        "llmload_coalesced_chunks_total",
        "llmload_good_requests_total",
        "llmload_slo_miss_total",
        *(metric.histogram for metric in EXPORTED),
        "llmload_schedule_lag_seconds",
        "llmload_input_tokens",
        "llmload_output_tokens",
        "llmload_requests_by_name_total",
        *(metric.histogram_by_name for metric in FROM_SEND),
        "llmload_output_tokens_by_name",
        "llmload_in_flight_requests",
        "llmload_users",
        "llmload_target_users",
        "llmload_target_request_rate",
        "llmload_step",
        "llmload_step_start_timestamp_seconds",
        "llmload_step_active",
        "llmload_worker_cpu_ratio",
        "llmload_worker_in_flight_requests",
        "llmload_worker_users",
        "llmload_worker_report_age_seconds",
        "llmload_worker_event_loop_lag_seconds",
        "llmload_workers",
    }
)
"""What a run exports. Histograms by their base name: without _bucket, _sum and _count."""

GPU = frozenset(
    {
        "gpu_info",
        "gpu_utilization_ratio",
        "gpu_sm_active_ratio",
        "gpu_tensor_active_ratio",
        "gpu_memory_bandwidth_utilization_ratio",
        "gpu_memory_utilization_ratio",
        "gpu_memory_used_bytes",
        "gpu_memory_total_bytes",
        "gpu_power_watts",
        "gpu_power_limit_watts",
        "gpu_energy_joules_total",
        "gpu_clock_hertz",
        "gpu_throttle_active",
        "gpu_temperature_celsius",
        "gpu_pcie_bytes_total",
        "gpu_nvlink_bytes_total",
        "gpu_process_memory_bytes",
        "gpu_exporter_field_supported",
    }
)
"""What the GPU exporter exports; most of them come from dcgm-exporter too, by the rules."""

RULES = frozenset(
    {
        "engine:requests_running",
        "engine:requests_waiting",
        "engine:kv_cache_usage_ratio",
        "engine:prompt_tokens_total",
        "engine:generation_tokens_total",
        "gpu:pcie_bytes_per_second",
        "gpu:nvlink_bytes_per_second",
    }
)
"""What only the recording rules make, of what engines and exporters name differently."""

ALERTS = ("LoadGeneratorIsTheBottleneck", "NoReportFromAProcess", "ManyErrors", "EngineDown")
"""Of ``prometheus/rules``."""

PROMETHEUS = frozenset({"up", "ALERTS"})

METRICS = LOADGEN | GPU | RULES | PROMETHEUS

_NOT_NAMES = re.compile(
    r'"[^"]*"'  # texts
    r"|\{[^}]*\}"  # matchers
    r"|\[[^]]*\]"  # ranges
    r"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"  # labels
    r"|@\s*(?:start|end)\(\)"
    r"|\b(?:and|or|unless|bool|offset|group_left|group_right)\b"
)
_FUNCTION = re.compile(r"\b\w+\s*(?=\()")
_NAME = re.compile(r"\b[a-zA-Z_][\w:]*")
_OF_HISTOGRAM = re.compile(r"_(?:bucket|sum|count)$")


def names_in(expression: str) -> list[str]:
    """Return the metrics that PromQL asks for, each once, histograms by their base name."""
    found = _NAME.findall(_FUNCTION.sub(" ", _NOT_NAMES.sub(" ", expression)))
    return list(dict.fromkeys(_OF_HISTOGRAM.sub("", name) for name in found))

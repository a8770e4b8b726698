"""Prometheus's configuration: for a Prometheus of this machine, and for one in a container."""

import json
from collections.abc import Mapping

_HEAD = """\
# Written by grafana/generate.py. {about}
global:
  scrape_interval: 5s
  scrape_timeout: 4s
  evaluation_interval: 5s

rule_files:
  - rules/*.yml

scrape_configs:
"""

_JOB = """\
  - job_name: {name}{path}
    static_configs:
      - targets: [{targets}]
"""

_KEEP = """\
    metric_relabel_configs:  # another program may have this port
      - source_labels: [__name__]
        regex: {prefix}.+
        action: keep
"""

EXPORTERS = {"loadgen": (9646, 9647, 9648), "gpu": (9401,), "dcgm": (9400,)}
"""Ports. A run whose port is taken by another one takes the next."""

ENGINES = {
    "vllm": (8000, "/metrics", "vllm:"),
    "sglang": (30000, "/metrics", "sglang:"),
    "tgi": (8080, "/metrics", "tgi_"),
    "llamacpp": (8080, "/metrics", "llamacpp:"),
    "lmdeploy": (23333, "/metrics", "lmdeploy:"),
    "tensorrt-llm": (8000, "/prometheus/metrics", "trtllm_"),
}
"""By the engine's name: the port where it mostly is, the path, and what its metrics begin with."""


def prometheus_yml(host: str, about: str, more: Mapping[str, str]) -> str:
    """Return the configuration for all that runs on a host. ``more``: a further target of a job."""
    text = _HEAD.format(about=about)
    for name, ports in EXPORTERS.items():
        targets = [*(f"{host}:{port}" for port in ports), *([more[name]] if name in more else [])]
        text += _JOB.format(name=name, path="", targets=json.dumps(targets)[1:-1])
    for name, (port, path, prefix) in ENGINES.items():
        own = "" if path == "/metrics" else f"\n    metrics_path: {path}"
        text += _JOB.format(name=name, path=own, targets=f'"{host}:{port}"') + _KEEP.format(prefix=prefix)
    return text

"""Prometheus's configuration: for a Prometheus of this machine, and for one in a container."""

import json
from collections.abc import Mapping, Sequence

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

_ADDED = """\
    file_sd_configs:
      - files: [{file}]
"""

_KEEP = """\
    metric_relabel_configs:  # another program may have this port
      - source_labels: [__name__]
        regex: ({prefixes}).+
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
"""By the engine's name: its usual port, the path of its metrics, and the prefix of their names."""

ADDED_ENGINES = "engines.json"
"""Addresses of further engines, for Prometheus's file discovery; the file lies next to the configuration."""

ENGINE_JOBS = {"engine": "/metrics", "tensorrt-llm": "/prometheus/metrics"}
"""Jobs that scrape engines, by the path that they ask for.

An engine is recognised by the names of its metrics, whatever its port. With a job for each engine, every added address
would be scraped once for each engine that it might be.
"""


def prometheus_yml(host: str, about: str, more: Mapping[str, str]) -> str:
    """Return the configuration for all that runs on a host. ``more``: a further target of a job."""
    text = _HEAD.format(about=about)
    for name, ports in EXPORTERS.items():
        targets = [f"{host}:{port}" for port in ports] + ([more[name]] if name in more else [])
        text += _job(name, "/metrics", targets)
    for name, path in ENGINE_JOBS.items():
        engines = [(port, prefix) for port, at, prefix in ENGINES.values() if at == path]
        ports = dict.fromkeys(port for port, _ in engines)
        text += _job(name, path, [f"{host}:{port}" for port in ports]) + _ADDED.format(file=ADDED_ENGINES)
        text += _KEEP.format(prefixes="|".join(prefix for _, prefix in engines))
    return text


def _job(name: str, path: str, targets: Sequence[str]) -> str:
    own = "" if path == "/metrics" else f"\n    metrics_path: {path}"
    return _JOB.format(name=name, path=own, targets=json.dumps(targets)[1:-1])

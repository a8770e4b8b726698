"""A run's metrics, scraped as Prometheus does."""

import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psutil
from cluster import Started
from prometheus_client.parser import text_string_to_metric_families

ANY_PORT = ("--metrics", "127.0.0.1:0")


def scrape(url: str, name: str = "Prometheus") -> str:
    """One scrape, by a scraper of this name."""
    headers = {"User-Agent": name, "X-Prometheus-Scrape-Timeout-Seconds": "1"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
        return str(reply.read().decode())


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples, by name and labels, without the run's own labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in {"run_id", "model", "engine"}}
            found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


def url_of(run: Started, seconds: float = 300) -> str:
    """Where the metrics of a run are, as it says."""
    due = time.monotonic() + seconds
    while (said := re.search(r"Metrics: (http\S+)", run.said)) is None:
        assert time.monotonic() < due, run.said
        assert run.process.poll() is None, run.said
        time.sleep(0.05)
    return said.group(1)


def followed(run: Started, every: float = 0.3, name: str = "Prometheus") -> Iterator[str]:
    """Scrape a run until it has ended, the exporter's last words included."""
    url = url_of(run)
    while True:
        try:
            yield scrape(url, name)
        except OSError:
            return
        time.sleep(every)


def children(run: Started, *, exporter: bool) -> list[psutil.Process]:
    """Processes that it has started and that still run: the exporter, or the others."""
    found = []
    for process in psutil.Process(run.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it ends just now
            if ("loadgen.exporter" in process.cmdline()) == exporter:
                found.append(process)
    return found


def of_outcomes(found: dict[Any, float]) -> dict[str, float]:
    return {
        dict(labels)["outcome"]: value for (name, labels), value in found.items() if name == "llmload_requests_total"
    }

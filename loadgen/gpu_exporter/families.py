"""What is exported of a poll: names, units and labels, as Prometheus's text."""

from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from loadgen.gpu_exporter.machine import Poll

_GPU = ("gpu", "uuid")

KNOWN = {
    "gpu_utilization_ratio": ("Share of the time in which any kernel ran", None),
    "gpu_memory_utilization_ratio": ("Share of the time in which memory was read or written; not its bandwidth", None),
    "gpu_sm_active_ratio": ("Share of the multiprocessors that were busy (GPM)", None),
    "gpu_tensor_active_ratio": ("Share of the time in which tensor cores were busy (GPM)", None),
    "gpu_memory_bandwidth_utilization_ratio": ("Bandwidth of memory that was used, of what there is (GPM)", None),
    "gpu_memory_used_bytes": ("Memory in use, without what the driver reserves for itself", None),
    "gpu_memory_total_bytes": ("Memory that there is", None),
    "gpu_power_watts": ("Power of the board; of many GPUs the mean of a second", None),
    "gpu_power_limit_watts": ("Power that the board is held to", None),
    "gpu_energy_joules_total": ("Energy since the driver was loaded", None),
    "gpu_clock_hertz": ("Clock now", "domain"),
    "gpu_throttle_active": ("Whether the clock is held down for a reason", "reason"),
    "gpu_temperature_celsius": ("Temperature of the chip", None),
    "gpu_pcie_bytes_total": ("Bytes over PCIe, as the GPU sends and receives them", "direction"),
    "gpu_nvlink_bytes_total": ("Payload over all NVLinks, as the GPU sends and receives it", "direction"),
    "gpu_process_memory_bytes": ("Memory of a process that computes; its pid is the machine's", "pid"),
}
"""What a GPU may say, by name: a text, and the label that the values have of their own."""


def text(poll: Poll) -> bytes:
    """Return all metrics in Prometheus's text format 0.0.4, which every scraper takes."""
    return generate_latest(_Polled(poll))


class _Polled(Collector):
    def __init__(self, poll: Poll) -> None:
        self._poll = poll

    def collect(self) -> Iterator[Metric]:
        yield _info(self._poll)
        yield from _values(self._poll)
        yield _supported(self._poll)
        yield from _own(self._poll)


def _info(poll: Poll) -> Metric:
    info = GaugeMetricFamily("gpu_info", "A GPU that answers", labels=[*_GPU, "name", "vendor", "driver_version"])
    for gpu in poll.readings:
        info.add_metric([str(gpu.index), gpu.uuid, gpu.name, "NVIDIA", poll.driver], 1)
    return info


def _values(poll: Poll) -> Iterator[Metric]:
    for name, (what, label) in KNOWN.items():
        labels = [*_GPU, *([label] if label else [])]
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        family = kind(name, what, labels=labels)
        for gpu in poll.readings:
            for own, value in gpu.values.get(name, ()):
                family.add_metric([str(gpu.index), gpu.uuid, *([own] if label else [])], value)
        if family.samples:
            yield family


def _supported(poll: Poll) -> Metric:
    what = "Whether a GPU, its driver and the driver's library have a metric at all"
    supported = GaugeMetricFamily("gpu_exporter_field_supported", what, labels=["gpu", "field"])
    for gpu in poll.readings:
        for name in KNOWN:
            supported.add_metric([str(gpu.index), name], float(name in gpu.values))
    return supported


def _own(poll: Poll) -> Iterator[Metric]:
    gpus = GaugeMetricFamily("gpu_exporter_gpus", "GPUs that answer, and that do not any more", labels=["state"])
    gpus.add_metric(["ok"], len(poll.readings))
    gpus.add_metric(["lost"], poll.lost)
    yield gpus
    yield GaugeMetricFamily("gpu_exporter_poll_seconds", "How long it took to ask all GPUs", value=poll.took_s)
    yield GaugeMetricFamily("gpu_exporter_last_poll_timestamp_seconds", "When they had answered", value=poll.at)

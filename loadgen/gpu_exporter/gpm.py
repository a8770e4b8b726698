"""GPM: how busy parts of a GPU are between two samples of its counters. Hopper and later have it."""

import math
from contextlib import suppress

import pynvml

from loadgen.gpu_exporter.questions import Answer, Handle

METRICS = {
    "gpu_sm_active_ratio": pynvml.NVML_GPM_METRIC_SM_UTIL,
    "gpu_tensor_active_ratio": pynvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
    "gpu_memory_bandwidth_utilization_ratio": pynvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
}
"""By the name that it is exported under. NVML tells them in percent."""


class Gpm:
    """The samples of one GPU. The first poll has nothing to compare with, so its answer has no values."""

    def __init__(self, handle: Handle) -> None:
        """Make room for samples; raises NVMLError where the GPU has no GPM."""
        if not pynvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        self._before, self._now = pynvml.nvmlGpmSampleAlloc(), pynvml.nvmlGpmSampleAlloc()
        self._has_before = False
        self._asked = pynvml.c_nvmlGpmMetricsGet_t()  # 19 KB: made once

    def __call__(self, handle: Handle) -> Answer:
        """Take a sample, and compare it with the one before."""
        pynvml.nvmlGpmSampleGet(handle, self._now)
        try:
            return self._compared() if self._has_before else {name: [] for name in METRICS}
        finally:
            self._before, self._now = self._now, self._before
            self._has_before = True

    def close(self) -> None:
        """Free the samples, while NVML is open."""
        for sample in (self._before, self._now):
            with suppress(pynvml.NVMLError):
                pynvml.nvmlGpmSampleFree(sample)

    def _compared(self) -> Answer:
        asked = self._asked
        asked.version = pynvml.NVML_GPM_METRICS_GET_VERSION
        asked.sample1, asked.sample2 = self._before, self._now
        asked.numMetrics = len(METRICS)
        for place, number in enumerate(METRICS.values()):
            asked.metrics[place].metricId = number
        pynvml.nvmlGpmMetricsGet(asked)
        told = zip(METRICS, asked.metrics, strict=False)  # there is room for all that NVML knows
        return {
            name: [("", metric.value / 100)]
            for name, metric in told
            if metric.nvmlReturn == pynvml.NVML_SUCCESS and math.isfinite(metric.value)
        }

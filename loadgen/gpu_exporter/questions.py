"""What a GPU is asked at each poll, and its answers in base units.

A question answers with the metrics that it is for, or raises NVMLError. What the GPU, the driver or its library does
not have is absent from an answer, and never 0; an empty list says that there is nothing to tell now.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

Handle = Any
"""What NVML names a GPU by, while it is open."""

Answer = dict[str, list[tuple[str, float]]]
"""By the name of a metric: the value of its own label, an empty text where it has none, and its value."""

Question = Callable[[Handle], Answer]

_T = TypeVar("_T")

REASONS = {
    "gpu_idle": 1 << 0,
    "applications_clocks_setting": 1 << 1,
    "sw_power_cap": 1 << 2,
    "hw_slowdown": 1 << 3,
    "sync_boost": 1 << 4,
    "sw_thermal_slowdown": 1 << 5,
    "hw_thermal_slowdown": 1 << 6,
    "hw_power_brake_slowdown": 1 << 7,
    "display_clock_setting": 1 << 8,
    "board_limit": 1 << 9,
    "reliability": 1 << 10,
}
"""Why clocks are lower than they could be, as nvml.h has it. Several hold at a time."""

_ALL_LINKS = (1 << 32) - 1
_WORD = 1 << 32
_MEMBERS = {
    pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


def one(name: str, value: float, label: str = "") -> Answer:
    """Return the answer of one value."""
    return {name: [(label, value)]}


def _utilization(handle: Handle) -> Answer:
    percent = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return one("gpu_utilization_ratio", percent.gpu / 100) | one("gpu_memory_utilization_ratio", percent.memory / 100)


def _memory(handle: Handle) -> Answer:
    """Answer with the second version's numbers: in the first one's, used has what the driver reserves for itself."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return one("gpu_memory_used_bytes", memory.used) | one("gpu_memory_total_bytes", memory.total)


def _power(handle: Handle) -> Answer:
    return one("gpu_power_watts", pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)


def _power_limit(handle: Handle) -> Answer:
    return one("gpu_power_limit_watts", pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)


def _energy(handle: Handle) -> Answer:
    return one("gpu_energy_joules_total", pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)


def _sm_clock(handle: Handle) -> Answer:
    return one("gpu_clock_hertz", pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM) * 1e6, "sm")


def _memory_clock(handle: Handle) -> Answer:
    return one("gpu_clock_hertz", pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM) * 1e6, "memory")


def _throttle(handle: Handle) -> Answer:
    # The library got the first name with driver 535; with CUDA 14 it will lose the second.
    bits = _known(
        lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
        lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle),
    )
    return {"gpu_throttle_active": [(reason, float(bits & bit != 0)) for reason, bit in REASONS.items()]}


def _temperature(handle: Handle) -> Answer:
    # Older libraries have the second only, and it is deprecated.
    celsius = _known(
        lambda: pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU),
        lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
    )
    return one("gpu_temperature_celsius", celsius)


def _nvlink(handle: Handle) -> Answer:
    sent, received = pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX
    (_, tx_kib), (_, rx_kib) = _fields(handle, (sent, _ALL_LINKS), (received, _ALL_LINKS))
    return {"gpu_nvlink_bytes_total": [("tx", tx_kib * 1024), ("rx", rx_kib * 1024)]}


def _processes(handle: Handle) -> Answer:
    """Answer with processes that compute; those whose memory is not known are left out."""
    used: dict[int, int] = {}
    for row in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle):
        if row.usedGpuMemory is not None:  # one that is in several slices of the GPU is there several times
            used[row.pid] = used.get(row.pid, 0) + row.usedGpuMemory
    return {"gpu_process_memory_bytes": [(str(pid), total) for pid, total in used.items()]}


QUESTIONS: tuple[Question, ...] = (
    _utilization,
    _memory,
    _power,
    _power_limit,
    _energy,
    _sm_clock,
    _memory_clock,
    _throttle,
    _temperature,
    _nvlink,
    _processes,
)
"""Those that need nothing but the GPU."""


class Pcie:
    """What has gone over a GPU's PCIe, since its counters began or, where those have 32 bits, since the first poll.

    Those wrap after 4 GiB. It is noticed as long as less than that goes over within an interval.
    """

    def __init__(self) -> None:
        self._before: list[int] | None = None
        self._total = [0, 0]

    def __call__(self, handle: Handle) -> Answer:
        """Ask."""
        told = _fields(handle, (pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 0), (pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 0))
        now = [int(value) for _, value in told]
        if any(kind == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT for kind, _ in told):
            before = self._before or now
            self._total = [t + (n - b) % _WORD for t, n, b in zip(self._total, now, before, strict=True)]
            self._before = now
        else:
            self._total = now
        return {"gpu_pcie_bytes_total": list(zip(("tx", "rx"), self._total, strict=True))}


def _fields(handle: Handle, *wanted: tuple[int, int]) -> list[tuple[int, float]]:
    """Return type and value of each field, given by its id and scope; raises NVMLError where one is not known."""
    told = []
    for field in pynvml.nvmlDeviceGetFieldValues(handle, wanted):
        if field.nvmlReturn != pynvml.NVML_SUCCESS:
            raise pynvml.NVMLError(field.nvmlReturn)
        if field.valueType not in _MEMBERS:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        told.append((field.valueType, getattr(field.value, _MEMBERS[field.valueType])))
    return told


def _known(new: Callable[[], _T], old: Callable[[], _T]) -> _T:
    """Return what the library says, by the old name where it does not have the new one."""
    try:
        return new()
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        return old()

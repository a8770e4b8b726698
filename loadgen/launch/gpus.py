"""What this machine's NVIDIA GPUs say of themselves, through the driver's library NVML.

Nothing here raises because of a GPU, a driver or the lack of them. NVML is open only within each call: a GPU that is
lost, or a driver that is loaded meanwhile, shows at the next. Indices are those of the system, as ``nvidia-smi`` has
them. CUDA counts alike if ``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``, or if all GPUs are of one kind.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

from loadgen.measure.facts import GpuFacts

VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_S = 0.2
"""How often it is looked whether memory has come back."""

_WHY = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver: its library, NVML (libnvidia-ml.so.1), cannot be loaded; "
    "a container gets it when it is started with --gpus all",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded; load it with modprobe nvidia, "
    "or restart the machine",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA driver was updated while another version of it is loaded; "
    "restart the machine",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to use the NVIDIA driver; see who may open /dev/nvidiactl",
}
_LEVELS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "PSB",
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}
"""The nearest that two GPUs have in common, in the words of ``nvidia-smi topo -m``."""

_Place = tuple[int, int, int]
"""PCI domain, bus and device."""
_SWITCH: _Place = (-1, -1, -1)
"""Stands for any NVSwitch: through them every GPU reaches every other one."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Gpu:
    """A GPU of the system, while NVML is open."""

    index: int
    handle: Any
    """None where it does not even give one, as when it is lost."""
    uuid: str | None
    place: _Place | None
    bus_id: str | None


def gpus() -> tuple[GpuFacts, ...]:
    """Each GPU that counts; none where there is no driver or no GPU.

    If ``CUDA_VISIBLE_DEVICES`` is set, those that it names count, in its order.
    """
    with suppress(pynvml.NVMLError), _nvml():
        visible = _visible(_found())
        links = _links(visible)
        driver, cuda = _told(pynvml.nvmlSystemGetDriverVersion), _cuda()
        return tuple(_facts(gpu, links.get(gpu.index), driver, cuda) for gpu in visible)
    return ()


def why_none() -> str:
    """Tell why :func:`gpus` is empty, for people; an empty text where it is not."""
    try:
        with _nvml():
            found = _found()
            visible = _visible(found)
    except pynvml.NVMLError as error:
        return _WHY.get(error.value, f"the NVIDIA driver does not answer: {error}")
    if not found:
        return "the NVIDIA driver is loaded, but has no GPU that we may use"
    if not visible:
        named = os.environ.get(VISIBLE)
        return f"{VISIBLE}={named!r} leaves none of the GPUs {', '.join(str(gpu.index) for gpu in found)}"
    return ""


def processes(index: int) -> list[tuple[int, int | None]]:
    """Each process that computes on a GPU: pid, and bytes of its memory, None where the driver does not say.

    Empty too where that cannot be told. Pids are the machine's: in a container they are not its own.
    """
    with suppress(pynvml.NVMLError), _nvml():
        rows = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByIndex(index))
        return [(row.pid, row.usedGpuMemory) for row in rows]
    return []


def free_bytes(indices: Iterable[int]) -> dict[int, int]:
    """Free memory by GPU; one that does not say is missing."""
    with suppress(pynvml.NVMLError), _nvml():
        return _free(indices)
    return {}


def energy(indices: Sequence[int]) -> tuple[float | None, float | None]:
    """Joules since the driver was loaded, and watts now, of these GPUs together; None where one does not say."""
    with suppress(pynvml.NVMLError), _nvml():
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices]
        return (
            _total(_told(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle) for handle in handles),
            _total(_told(pynvml.nvmlDeviceGetPowerUsage, handle) for handle in handles),
        )
    return None, None


def _total(thousandths: Iterable[int | None]) -> float | None:
    """Return the sum of what each says in thousandths; None where one says nothing, or there is none."""
    found = list(thousandths)
    known = [value for value in found if value is not None]
    return sum(known) / 1000 if known and len(known) == len(found) else None


def wait_freed(indices: Sequence[int], before: Mapping[int, int], timeout_s: float, tolerance_bytes: int) -> list[int]:
    """Wait until each GPU has as much free memory as before, less a tolerance; returns those that have not.

    One of which ``before`` does not say anything is not waited for; one that is lost meanwhile has not.
    """
    wanted = {index: before[index] - tolerance_bytes for index in indices if index in before}
    deadline = time.monotonic() + timeout_s
    with suppress(pynvml.NVMLError), _nvml():  # held open: without persistence each opening wakes the GPUs anew
        while True:
            free = _free(wanted)
            short = [index for index, least in wanted.items() if index not in free or free[index] < least]
            left_s = deadline - time.monotonic()
            if not short or left_s <= 0:
                return short
            time.sleep(min(POLL_S, left_s))
    return list(wanted)


@contextmanager
def _nvml() -> Iterator[None]:
    """Open NVML; raises NVMLError."""
    pynvml.nvmlInit()
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _told(ask: Callable[..., _T], *arguments: object) -> _T | None:
    """Return what NVML answers; None where it cannot, whatever the reason."""
    try:
        return ask(*arguments)
    except pynvml.NVMLError:
        return None


def _free(indices: Iterable[int]) -> dict[int, int]:
    free = {}
    for index in indices:
        with suppress(pynvml.NVMLError):
            free[index] = int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index)).free)
    return free


def _found() -> list[_Gpu]:
    """Every GPU of the system, but those that belong to others."""
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_NO_PERMISSION:
                found.append(_Gpu(index, None, None, None, None))
            continue
        pci = _told(pynvml.nvmlDeviceGetPciInfo, handle)
        uuid = _told(pynvml.nvmlDeviceGetUUID, handle)
        found.append(_Gpu(index, handle, uuid, _place(pci), None if pci is None else pci.busId))
    return found


def _visible(found: list[_Gpu]) -> list[_Gpu]:
    """Those that ``CUDA_VISIBLE_DEVICES`` names by index or by the beginning of their UUID; all if it is not set."""
    named = os.environ.get(VISIBLE)
    if named is None:
        return found
    visible: list[_Gpu] = []
    for word in map(str.strip, named.split(",")):
        meant = [gpu for gpu in found if _is_named(gpu, word)]
        if len(meant) != 1 or meant[0] in visible:
            break  # as CUDA has it: what stands after a wrong entry is not visible
        visible += meant
    return visible


def _is_named(gpu: _Gpu, word: str) -> bool:
    if word.startswith("GPU-"):
        return gpu.uuid is not None and gpu.uuid.startswith(word)
    return word.isdecimal() and int(word) == gpu.index


def _facts(gpu: _Gpu, links: dict[int, str] | None, driver: str | None, cuda: str | None) -> GpuFacts:
    if gpu.handle is None:
        return GpuFacts(index=gpu.index, driver=driver, cuda=cuda)

    def told(ask: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 as NVML has it
        return _told(ask, gpu.handle, *arguments)

    memory = told(pynvml.nvmlDeviceGetMemoryInfo)
    capability = told(pynvml.nvmlDeviceGetCudaComputeCapability)
    return GpuFacts(
        index=gpu.index,
        uuid=gpu.uuid,
        name=told(pynvml.nvmlDeviceGetName),
        bus_id=gpu.bus_id,
        memory_bytes=None if memory is None else int(memory.total),
        memory_free_bytes=None if memory is None else int(memory.free),
        driver=driver,
        cuda=cuda,
        compute_capability=None if capability is None else ".".join(map(str, capability)),
        sm_clock_mhz=told(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
        memory_clock_mhz=told(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
        max_sm_clock_mhz=told(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM),
        max_memory_clock_mhz=told(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_MEM),
        power_cap_w=_watts(told(pynvml.nvmlDeviceGetEnforcedPowerLimit)),
        power_default_w=_watts(told(pynvml.nvmlDeviceGetPowerManagementDefaultLimit)),
        persistence=_is_on(told(pynvml.nvmlDeviceGetPersistenceMode)),
        ecc=_is_on(told(pynvml.nvmlDeviceGetEccMode)),
        mig=_is_on(told(pynvml.nvmlDeviceGetMigMode)),
        links=links,
    )


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def _is_on(mode: int | list[int] | None) -> bool | None:
    """Tell what a switch of the GPU says; of two, the second is what it will be after the next reset."""
    now = mode[0] if isinstance(mode, list) else mode
    return None if now is None else now == pynvml.NVML_FEATURE_ENABLED


def _cuda() -> str | None:
    version = _told(pynvml.nvmlSystemGetCudaDriverVersion)
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _links(visible: list[_Gpu]) -> dict[int, dict[int, str]]:
    """How each GPU is joined to each other one; one that is lost is missing."""
    ends = {gpu.index: _nvlink_ends(gpu) for gpu in visible if gpu.handle is not None}
    links: dict[int, dict[int, str]] = {index: {} for index in ends}
    for a in visible:
        for b in visible:
            if a is b or a.index not in ends or b.index not in ends:
                continue
            direct = 0 if b.place is None else ends[a.index][b.place]
            nvlinks = direct + min(ends[a.index][_SWITCH], ends[b.index][_SWITCH])
            level = _told(pynvml.nvmlDeviceGetTopologyCommonAncestor, a.handle, b.handle)
            joined = f"NV{nvlinks}" if nvlinks else _LEVELS.get(level)
            if joined is not None:
                links[a.index][b.index] = joined
    return links


def _nvlink_ends(gpu: _Gpu) -> Counter[_Place]:
    """Count the NVLinks that are up, by where they end."""
    ends: Counter[_Place] = Counter()
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        if _told(pynvml.nvmlDeviceGetNvLinkState, gpu.handle, link) != pynvml.NVML_FEATURE_ENABLED:
            continue
        kind = _told(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, gpu.handle, link)
        end = _place(_told(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, gpu.handle, link))
        if kind == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            ends[_SWITCH] += 1
        elif end is not None:
            ends[end] += 1
    return ends


def _place(pci: Any) -> _Place | None:  # noqa: ANN401 a structure of NVML's
    return None if pci is None else (int(pci.domain), int(pci.bus), int(pci.device))

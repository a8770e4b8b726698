"""GPUs that are not there: ``fake_nvml.c``, compiled, and the script that it follows."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30

Says = Mapping[str, object]
"""What one GPU says, by the keys of ``fake_nvml.c``, without their ``gpuN.``; None: nothing."""


@dataclass(frozen=True)
class FakeNvml:
    """A folder with a library and its script."""

    folder: Path

    @property
    def script(self) -> Path:
        """The file that the library reads at each call."""
        return self.folder / "script.txt"

    @property
    def environment(self) -> dict[str, str]:
        """What a process has to be started with, all of it, to find this library and every GPU in it."""
        kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        path = os.pathsep.join(filter(None, [str(self.folder), kept.get("LD_LIBRARY_PATH")]))
        return kept | {"LD_LIBRARY_PATH": path, "FAKE_NVML_SCRIPT": str(self.script)}

    def says(self, *gpus: Says, **system: object) -> None:
        """From now on it says this: each GPU, and the system's driver, cuda, nvml, init."""
        keys = {"driver": "580.95.05", "nvml": "13.580.95.05", "cuda": 13000, "count": len(gpus)} | system
        keys |= {f"gpu{number}.{key}": value for number, gpu in enumerate(gpus) for key, value in gpu.items()}
        lines = (f"{key} {value}\n" for key, value in keys.items() if value is not None)
        fresh = self.script.with_suffix(".new")
        fresh.write_text("".join(lines))
        fresh.replace(self.script)  # at once, for one who reads it meanwhile


def fake_nvml(folder: Path, *, without: Sequence[str] = ()) -> FakeNvml:
    """Compile the library into a folder, less some of its functions, as an older driver has fewer."""
    compiler = shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs gcc, and a system that looks for libnvidia-ml.so.1")
    renamed = (f"-D{name}=absent_{name}" for name in without)
    target = ["-Wl,-soname,libnvidia-ml.so.1", "-o", str(folder / "libnvidia-ml.so.1")]
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, *renamed, str(SOURCE), *target], check=True)
    fake = FakeNvml(folder)
    fake.says()
    return fake


def a100(number: int, **otherwise: object) -> dict[str, object]:
    """One of two idle A100, each with twelve NVLinks to the other."""
    return {
        "name": "NVIDIA A100-SXM4-80GB",
        "uuid": f"GPU-{number}a5e0f3c-1b2d-4c3e-8f90-0123456789ab",
        "bus_id": f"00000000:0{7 + number}:00.0",
        "memory_total": 80 * GIB,
        "memory_used": 0,
        "memory_reserved": GIB,
        "compute_capability": "8.0",
        "sm_mhz": 210,
        "memory_mhz": 1593,
        "max_sm_mhz": 1410,
        "max_memory_mhz": 1593,
        "power_mw": 61_500,
        "cap_mw": 350_500,
        "default_cap_mw": 400_000,
        "energy_mj": 0,
        "temperature_c": 31,
        "utilization": "0 0",
        "clock_reasons": 1,
        "pcie_sent_kb": 0,
        "pcie_received_kb": 0,
        "pcie_sent_bytes": 0,
        "pcie_received_bytes": 0,
        "nvlink_sent_kib": 0,
        "nvlink_received_kib": 0,
        "persistence": 1,
        "ecc": 1,
        "mig": 0,
        "nvlinks": " ".join([str(1 - number)] * 12),
        f"ancestor.{1 - number}": 50,
        "processes": "",
    } | otherwise


def h100(number: int, **otherwise: object) -> dict[str, object]:
    """One of two idle H100: as an A100, but that it has GPM."""
    return a100(number, name="NVIDIA H100 80GB HBM3", compute_capability="9.0", gpm="0 0 0") | otherwise

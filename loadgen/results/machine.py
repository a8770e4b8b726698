"""Which machine this is, as far as measurements depend on it."""

import os
import platform
from pathlib import Path

import msgspec

from loadgen.version import VERSION


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, and what runs on it."""

    cpu: str | None
    """The processor's name, where the system tells it."""
    cpus: int | None
    platform: str
    """System and kernel."""
    python: str
    loadgen: str


def this_machine() -> Machine:
    """Return the one we are on."""
    return Machine(
        cpu=_cpu(),
        cpus=os.cpu_count(),
        platform=platform.platform(),
        python=platform.python_version(),
        loadgen=VERSION,
    )


def _cpu() -> str | None:
    """Return the processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None

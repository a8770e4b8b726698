"""The machine: what it is, which core is whose, which ports are free, what its environment says."""

import os
import platform
import re
import resource
import socket
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLIENT_CORE, SERVER_CORE = 0, 1


_NOT_USED = ("LOADGEN_", "LOCUST_", "OPENAI_", "GRAFANA_", "PYTHONPATH")


def environment() -> dict[str, str]:
    """Return ours without what would change a run, and without the process that exports metrics."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_NOT_USED)} | {"LOADGEN_METRICS": "off"}


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def pin_server(pid: int) -> None:
    """Give a server its core, where there are two."""
    if SERVER_CORE in os.sched_getaffinity(0):
        os.sched_setaffinity(pid, {SERVER_CORE})


def open_many_files() -> None:
    """Raise the limit on open files as far as it goes, for us and for what we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def described() -> str:
    """Return the machine in one line."""
    system = f"Linux {platform.release()}" if platform.system() == "Linux" else platform.platform()
    pinned = SERVER_CORE in os.sched_getaffinity(0)
    cores = (
        f"client on core {CLIENT_CORE}, server on core {SERVER_CORE}" if pinned else "client and server share a core"
    )
    return f"{_cpu()}, {os.cpu_count()} cores ({cores}), {system}, Python {platform.python_version()}"


def slug() -> str:
    """Return the processor's name as the name of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", _cpu().lower()).strip("-") or "unknown"


def revision() -> str:
    """Return the commit that was measured, and whether anything but it was; empty outside a checkout."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

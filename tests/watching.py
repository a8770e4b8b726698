"""Everything that is monitored, together: runs, engines and GPUs, scraped by a Prometheus that has our rules.

The GPUs alone are not there: NVML is ``fake_nvml.c``. The exporter that reads it is ours, in a process of its own.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import FEW, Started, Starter, engine
from conftest import ROOT, free_port
from nvml import GIB, FakeNvml, a100, fake_nvml, h100
from prometheus import Prometheus, prometheus
from scraping import url_of

RULES = ROOT / "grafana" / "prometheus" / "rules"


@dataclass(frozen=True)
class Watched:
    """What Prometheus has seen; all runs have ended."""

    server: Prometheus
    sweep: Started
    """Two processes on the embedded engine, with limits."""
    steady: Started
    """An open loop, with as many answers as a p99 needs, however slow this machine is."""
    failing: Started
    """Another, on a simulated engine whose answers all break off at their fifth token."""

    @property
    def runs(self) -> list[Started]:
        """All of them."""
        return [self.sweep, self.steady, self.failing]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Let three runs go on beside each other, and Prometheus scrape them, their engines and two GPUs."""
    folder = tmp_path_factory.mktemp("watched")
    starter = Starter(folder)
    with ExitStack() as held:
        held.callback(starter.end)
        gpus = held.enter_context(_gpu_exporter(folder))
        for name in ("sound", "broken"):
            (folder / name).mkdir()
        sound = held.enter_context(engine(folder / "sound", ttft_ms=20, itl_ms=2))
        broken = held.enter_context(engine(folder / "broken", ttft_ms=20, itl_ms=2, fail_at=5))
        sweep, steady = _sweep(starter), _rate(starter, "steady", sound.host, "30")
        failing = _rate(starter, "failing", broken.host, "10")
        embedded = _until(lambda: _host_of(sweep), sweep)
        jobs = {
            "sweep": url_of(sweep).removeprefix("http://"),
            "steady": url_of(steady).removeprefix("http://"),
            "failing": url_of(failing).removeprefix("http://"),
            "gpu": gpus,
            "llamacpp": f"{embedded}/metrics",
            "vllm": f"{sound.host.removeprefix('http://')}/metrics",  # whose names it has
        }
        server = held.enter_context(prometheus(folder / "prometheus", jobs, hurried(folder)))
        server.wait_until_up(jobs)
        for run in (sweep, steady, failing):
            run.wait()
        yield Watched(server, sweep, steady, failing)


def _sweep(starter: Starter) -> Started:
    port = str(free_port())
    processes = ("--processes", "2", "--master-bind-port", port, "--master-port", port)
    steps = ("--steps", "2,4", "--step-time", "10", "--sample", "30", "--max-tokens", "8")
    more = ("--warmup", "1", "--slo", "ttft_ms=60,e2e_ms=1000", "--price-per-gpu-hour", "2.5")
    more += ("--headless", "--metrics", "127.0.0.1:0")
    return starter(*processes, *steps, *more, name="sweep", locustfile=ROOT / "locustfiles" / "sweep.py")


def _rate(starter: Starter, name: str, host: str, rate: str) -> Started:
    load = ("--host", host, "--rate", rate, "--run-time", "22s", *FEW, "--warmup", "0")  # one that failed would end it
    more = ("--headless", "--metrics", "127.0.0.1:0")
    return starter(*load, *more, name=name, locustfile=ROOT / "locustfiles" / "rate.py")


def _host_of(run: Started) -> str | None:
    """Return where its engine is, as its manifest says."""
    for manifest in run.results.glob("*/run.json"):
        return str(json.loads(manifest.read_text())["host"]).removeprefix("http://")
    return None


def _until(found: Callable[[], str | None], run: Started) -> str:
    due = time.monotonic() + 300
    while (value := found()) is None:
        assert run.process.poll() is None, run.said
        assert time.monotonic() < due, run.said
        time.sleep(0.05)
    return value


def hurried(folder: Path) -> Path:
    """Return our rules, evaluated each second, as everything is scraped."""
    (folder / "rules").mkdir()
    for path in RULES.glob("*.yml"):
        text = path.read_text().replace("    rules:\n", "    interval: 1s\n    rules:\n")
        (folder / "rules" / path.name).write_text(text)
    return folder / "rules" / "*.yml"


@contextmanager
def _gpu_exporter(folder: Path) -> Iterator[str]:
    """Export an H100 and an A100 that work; yield where."""
    fake, done = fake_nvml(folder), threading.Event()
    _work(fake, 0)
    worker = threading.Thread(target=_keep_working, args=(fake, done))
    command = [sys.executable, "-m", "loadgen.cli", "gpu-exporter", "--listen", "127.0.0.1:0"]
    worker.start()
    try:
        with subprocess.Popen(command, env=fake.environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            try:
                yield said.removeprefix("GPU metrics: http://").strip()
            finally:
                process.terminate()
    finally:
        done.set()
        worker.join()


def _keep_working(fake: FakeNvml, done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(0.25):
        _work(fake, time.monotonic() - began)


def _work(fake: FakeNvml, seconds: float) -> None:
    """Say what GPUs say after so long at 300 W and 1 GB/s."""
    busy = {
        "utilization": "90 40",
        "power_mw": 300_000,
        "energy_mj": int(300_000 * seconds),
        "memory_used": 60 * GIB,
        "clock_reasons": 0x4,
        "processes": f"4242:{40 * GIB}",
        "pcie_sent_bytes": int(1e9 * seconds),
        "pcie_received_bytes": int(1e9 * seconds),
        "nvlink_sent_kib": int(1e6 * seconds),
        "nvlink_received_kib": int(1e6 * seconds),
    }
    fake.says(h100(0, **busy, gpm="80 60 50"), a100(1, **busy))  # an A100 has no GPM

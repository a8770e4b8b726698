"""``loadgen gpu-exporter``: the process itself, on a driver that follows a script, scraped over HTTP."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pynvml
import pytest
from conftest import free_port
from nvml import GIB, FakeNvml, a100, fake_nvml, h100
from prometheus import prometheus
from prometheus_client.parser import text_string_to_metric_families

COMMAND = [sys.executable, "-m", "loadgen.cli", "gpu-exporter"]
LOST = {"error": f"!{pynvml.NVML_ERROR_GPU_IS_LOST}"}
GPM = {"gpu_sm_active_ratio", "gpu_tensor_active_ratio", "gpu_memory_bandwidth_utilization_ratio"}
UUIDS = [str(a100(number)["uuid"]) for number in (0, 1)]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By name and labels, the uuid left out."""


def samples(text: str) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "uuid"))
            assert (sample.name, labels) not in found
            found[sample.name, labels] = sample.value
    return found


def key(name: str, /, **labels: object) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted((k, str(v)) for k, v in labels.items()))


def names(found: Samples, gpu: int = 0) -> set[str]:
    """What is exported of a GPU."""
    return {name for name, labels in found if ("gpu", str(gpu)) in labels} - {"gpu_exporter_field_supported"}


def supported(found: Samples, gpu: int = 0) -> dict[str, bool]:
    rows = {labels: value for (name, labels), value in found.items() if name == "gpu_exporter_field_supported"}
    assert set(rows.values()) <= {0.0, 1.0}
    return {dict(labels)["field"]: bool(value) for labels, value in rows.items() if dict(labels)["gpu"] == str(gpu)}


class Exporter:
    """One that runs."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        command = [*COMMAND, "--listen", "127.0.0.1:0", "--interval", "0.1", *arguments]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        self.url = self.said.removeprefix("GPU metrics: ").strip()

    def get(self, route: str = "/metrics") -> tuple[int, str, str]:
        """Return status, type and body of an answer."""
        try:
            with urllib.request.urlopen(self.url.removesuffix("/metrics") + route, timeout=5) as reply:
                return reply.status, reply.headers["Content-Type"], reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()

    def fresh(self) -> Samples:
        """Return what a poll says that began after this call: the next one may have begun before it."""
        name = "gpu_exporter_last_poll_timestamp_seconds"
        stamps: set[float] = set()
        due = time.monotonic() + 120
        while True:
            found = samples(self.get()[2])
            stamps.add(found[key(name)])
            if len(stamps) > 2:
                return found
            assert time.monotonic() < due
            time.sleep(0.02)

    def until(self, holds: Callable[[Samples], bool], seconds: float = 15) -> Samples:
        due = time.monotonic() + seconds
        while not holds(found := self.fresh()):
            assert time.monotonic() < due, found
        return found

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Return its status and what it has printed on its standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=10)
        return self.process.returncode, err


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    return fake_nvml(tmp_path_factory.mktemp("nvml"))


Start = Callable[..., Exporter]


@pytest.fixture
def start(fake: FakeNvml) -> Iterator[Start]:
    """Start one that finds the fake, or what its environment says otherwise; it ends well and says nothing more."""
    started: list[Exporter] = []

    def start(environment: dict[str, str] | None = None, *arguments: str) -> Exporter:
        started.append(Exporter(environment or fake.environment, *arguments))
        return started[-1]

    yield start
    for exporter in started:
        if exporter.process.returncode is None:
            assert exporter.end() == (0, "")


def refused(environment: dict[str, str], *arguments: str) -> str:
    """Return the one line that it ends with."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"loadgen: .*\.\n", done.stderr), done.stderr
    return done.stderr


def test_everything_that_two_a100_say_is_exported_in_base_units(fake: FakeNvml, start: Start) -> None:
    busy = {
        "utilization": "73 41",
        "memory_used": 60 * GIB,
        "power_mw": 345_678,
        "energy_mj": 123_456_789_012,
        "sm_mhz": 1410,
        "clock_reasons": 0x4 | 0x80,
        "temperature_c": 67,
        "pcie_sent_bytes": 5_000_000_000_123,
        "pcie_received_bytes": 77,
        "nvlink_sent_kib": 3,
        "nvlink_received_kib": 1 << 40,
        "processes": f"4242:{40 * GIB} 4243:? 4244:1000 4244:24",
    }
    fake.says(a100(0, **busy), a100(1))
    exporter = start()
    assert re.fullmatch(r"GPU metrics: http://127\.0\.0\.1:\d+/metrics\n", exporter.said)
    found = exporter.fresh()
    reasons = {
        "gpu_idle",
        "applications_clocks_setting",
        "sw_power_cap",
        "hw_slowdown",
        "sync_boost",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "display_clock_setting",
        "board_limit",
        "reliability",
    }
    of_first = {
        key("gpu_info", gpu=0, name="NVIDIA A100-SXM4-80GB", vendor="NVIDIA", driver_version="580.95.05"): 1,
        key("gpu_utilization_ratio", gpu=0): 0.73,
        key("gpu_memory_utilization_ratio", gpu=0): 0.41,
        key("gpu_memory_used_bytes", gpu=0): 60 * GIB,
        key("gpu_memory_total_bytes", gpu=0): 80 * GIB,
        key("gpu_power_watts", gpu=0): 345.678,
        key("gpu_power_limit_watts", gpu=0): 350.5,
        key("gpu_energy_joules_total", gpu=0): 123_456_789.012,
        key("gpu_clock_hertz", gpu=0, domain="sm"): 1.41e9,
        key("gpu_clock_hertz", gpu=0, domain="memory"): 1.593e9,
        **{
            key("gpu_throttle_active", gpu=0, reason=reason): reason in {"sw_power_cap", "hw_power_brake_slowdown"}
            for reason in reasons
        },
        key("gpu_temperature_celsius", gpu=0): 67,
        key("gpu_pcie_bytes_total", gpu=0, direction="tx"): 5_000_000_000_123,
        key("gpu_pcie_bytes_total", gpu=0, direction="rx"): 77,
        key("gpu_nvlink_bytes_total", gpu=0, direction="tx"): 3072,
        key("gpu_nvlink_bytes_total", gpu=0, direction="rx"): 1 << 50,
        key("gpu_process_memory_bytes", gpu=0, pid=4242): 40 * GIB,
        key("gpu_process_memory_bytes", gpu=0, pid=4244): 1024,  # in two slices of the GPU
    }
    told = {k: v for k, v in found.items() if ("gpu", "0") in k[1] and k[0] != "gpu_exporter_field_supported"}
    assert told == of_first
    assert names(found, gpu=1) == names(found) - {"gpu_process_memory_bytes"}
    assert found[key("gpu_throttle_active", gpu=1, reason="gpu_idle")] == 1
    assert {name for name, has in supported(found).items() if not has} == GPM
    assert supported(found, gpu=1) == supported(found)  # that no process runs is told by a driver that could tell one
    own = {k: v for k, v in found.items() if ("gpu", "0") not in k[1] and ("gpu", "1") not in k[1]}
    took_s, at = own.pop(key("gpu_exporter_poll_seconds")), own.pop(key("gpu_exporter_last_poll_timestamp_seconds"))
    assert own == {key("gpu_exporter_gpus", state="ok"): 2, key("gpu_exporter_gpus", state="lost"): 0}
    assert 0 < took_s < 5
    assert abs(time.time() - at) < 5


def test_series_of_a_gpu_have_its_index_and_its_uuid_and_their_own_label_only(fake: FakeNvml, start: Start) -> None:
    fake.says(h100(0, processes="1:1"), h100(1, processes="1:1"))
    exporter = start()
    exporter.fresh()
    own = {
        "gpu_info": {"name", "vendor", "driver_version"},
        "gpu_clock_hertz": {"domain"},
        "gpu_throttle_active": {"reason"},
        "gpu_pcie_bytes_total": {"direction"},
        "gpu_nvlink_bytes_total": {"direction"},
        "gpu_process_memory_bytes": {"pid"},
    }
    seen = set()
    for family in text_string_to_metric_families(exporter.get()[2]):
        for sample in family.samples:
            if not sample.name.startswith("gpu_exporter_"):
                seen.add(sample.name)
                assert set(sample.labels) == {"gpu", "uuid"} | own.get(sample.name, set())
                assert sample.labels["uuid"] == UUIDS[int(sample.labels["gpu"])]
                assert family.type == ("counter" if sample.name.endswith("_total") else "gauge")
    assert len(seen) == 17  # the 16 that may be absent, and gpu_info


@pytest.mark.parametrize(
    ("keys", "absent"),
    [
        (["utilization"], {"gpu_utilization_ratio", "gpu_memory_utilization_ratio"}),
        (["memory_total"], {"gpu_memory_used_bytes", "gpu_memory_total_bytes"}),
        (["power_mw"], {"gpu_power_watts"}),
        (["cap_mw"], {"gpu_power_limit_watts"}),
        (["energy_mj"], {"gpu_energy_joules_total"}),
        (["sm_mhz", "memory_mhz"], {"gpu_clock_hertz"}),
        (["clock_reasons"], {"gpu_throttle_active"}),
        (["temperature_c"], {"gpu_temperature_celsius"}),
        (["pcie_received_bytes"], {"gpu_pcie_bytes_total"}),
        (["nvlink_sent_kib"], {"gpu_nvlink_bytes_total"}),
        (["processes"], {"gpu_process_memory_bytes"}),
        (["gpm"], GPM),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_not_supported_is_absent_and_told_so(
    fake: FakeNvml, start: Start, keys: list[str], absent: set[str]
) -> None:
    fake.says(
        h100(0, processes="1:1"),
        h100(1, **dict.fromkeys(keys), **({} if "processes" in keys else {"processes": "1:1"})),
    )
    found = start().until(lambda found: names(found) >= GPM)
    assert names(found) - names(found, gpu=1) == absent
    assert all(supported(found).values())
    assert {name for name, has in supported(found, gpu=1).items() if not has} == absent


def test_one_clock_without_the_other_is_exported(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0, memory_mhz=None))
    found = start().fresh()
    assert found[key("gpu_clock_hertz", gpu=0, domain="sm")] == 2.1e8
    assert key("gpu_clock_hertz", gpu=0, domain="memory") not in found


def test_a_gpu_that_says_nothing_at_all_is_there_nevertheless(fake: FakeNvml, start: Start) -> None:
    fake.says({}, driver=None)
    found = start().fresh()
    assert names(found) == {"gpu_info"}
    assert found[key("gpu_info", gpu=0, name="", vendor="NVIDIA", driver_version="")] == 1
    assert not any(supported(found).values())
    assert found[key("gpu_exporter_gpus", state="ok")] == 1


def test_functions_that_an_older_library_lacks_take_their_values_with_them_only(tmp_path: Path, start: Start) -> None:
    missing = [
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlGpmQueryDeviceSupport",
    ]
    older = fake_nvml(tmp_path, without=missing)
    older.says(h100(0, processes="1:1"))
    found = start(older.environment).fresh()
    absent = GPM | {
        "gpu_energy_joules_total",
        "gpu_pcie_bytes_total",
        "gpu_nvlink_bytes_total",
        "gpu_process_memory_bytes",
        "gpu_memory_used_bytes",
        "gpu_memory_total_bytes",
    }
    assert {name for name, has in supported(found).items() if not has} == absent
    assert names(found) == (set(supported(found)) | {"gpu_info"}) - absent


def test_functions_that_have_changed_their_name_are_asked_by_the_old_one(tmp_path: Path, start: Start) -> None:
    older = fake_nvml(tmp_path, without=["nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"])
    older.says(a100(0, clock_reasons=8))
    found = start(older.environment).fresh()
    assert found[key("gpu_throttle_active", gpu=0, reason="hw_slowdown")] == 1
    assert found[key("gpu_temperature_celsius", gpu=0)] == 31


def test_a_gpu_that_falls_off_the_bus_takes_its_series_with_it_and_may_come_back(fake: FakeNvml, start: Start) -> None:
    fake.says(h100(0, energy_mj=1000), h100(1, energy_mj=2000))
    exporter = start()
    whole = exporter.until(lambda found: names(found, gpu=1) >= GPM)
    fake.says(h100(0, energy_mj=3000), h100(1) | LOST)
    found = exporter.fresh()
    assert names(found) == names(whole)
    assert found[key("gpu_energy_joules_total", gpu=0)] == 3
    assert names(found, gpu=1) == set()
    assert supported(found, gpu=1) == {}
    assert found[key("gpu_exporter_gpus", state="ok")] == found[key("gpu_exporter_gpus", state="lost")] == 1
    # To this NVML it is lost for good.
    fake.says(h100(0), h100(1, energy_mj=4000))
    assert names(exporter.fresh(), gpu=1) == set()
    found = exporter.until(lambda found: names(found, gpu=1) >= GPM)
    assert names(found, gpu=1) == names(whole, gpu=1)
    assert found[key("gpu_energy_joules_total", gpu=1)] == 4
    assert found[key("gpu_exporter_gpus", state="lost")] == 0


def test_a_gpu_that_is_not_even_counted_any_more_is_lost(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0), a100(1))
    exporter = start()
    fake.says(a100(0), a100(1) | LOST)
    exporter.until(lambda found: found[key("gpu_exporter_gpus", state="lost")] == 1)
    fake.says(a100(0))
    time.sleep(4)  # NVML is opened anew within it
    found = exporter.fresh()
    assert (found[key("gpu_exporter_gpus", state="ok")], found[key("gpu_exporter_gpus", state="lost")]) == (1, 1)


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_GPU_IS_LOST])
def test_a_gpu_all_of_whose_values_fail_is_lost(fake: FakeNvml, start: Start, error: int) -> None:
    fake.says(a100(0), a100(1))
    exporter = start()
    fake.says(a100(0), dict.fromkeys(a100(1), f"!{error}"))
    found = exporter.until(lambda found: found[key("gpu_exporter_gpus", state="lost")] == 1)
    assert names(found, gpu=1) == set()
    fake.says(a100(0), a100(1))
    exporter.until(lambda found: found[key("gpu_exporter_gpus", state="lost")] == 0)


def test_gpus_that_are_lost_from_the_beginning_are_told(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0) | LOST)
    found = start().fresh()
    assert {k[0] for k in found} == {
        "gpu_exporter_gpus",
        "gpu_exporter_poll_seconds",
        "gpu_exporter_last_poll_timestamp_seconds",
    }
    assert found[key("gpu_exporter_gpus", state="lost")] == 1


def test_somebody_elses_gpu_is_left_out_and_not_lost(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0, handle="!4"), a100(1))
    found = start().fresh()
    assert (names(found, gpu=0), "gpu_power_watts" in names(found, gpu=1)) == (set(), True)
    assert (found[key("gpu_exporter_gpus", state="ok")], found[key("gpu_exporter_gpus", state="lost")]) == (1, 0)


def test_the_driver_may_be_taken_away_and_come_back(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    fake.says(a100(0) | LOST, init=f"!{pynvml.NVML_ERROR_DRIVER_NOT_LOADED}")
    exporter.until(lambda found: found[key("gpu_exporter_gpus", state="lost")] == 1)
    time.sleep(4)  # NVML cannot be opened anew within it
    fake.says(a100(0))
    exporter.until(lambda found: found[key("gpu_exporter_gpus", state="ok")] == 1)


def test_gpm_tells_of_an_h100_what_was_between_two_polls(fake: FakeNvml, start: Start) -> None:
    fake.says(h100(0, gpm="62.5 40 81.25"), h100(1, gpm="10 - 20"), a100(0))
    exporter = start()
    found = exporter.until(lambda found: names(found) >= GPM)
    assert found[key("gpu_sm_active_ratio", gpu=0)] == 0.625
    assert found[key("gpu_tensor_active_ratio", gpu=0)] == 0.4
    assert found[key("gpu_memory_bandwidth_utilization_ratio", gpu=0)] == 0.8125
    assert GPM & names(found, gpu=1) == GPM - {"gpu_tensor_active_ratio"}
    assert not supported(found, gpu=1)["gpu_tensor_active_ratio"]
    assert GPM & names(found, gpu=2) == set()  # an A100's coarse utilization of memory does not stand for its bandwidth
    fake.says(h100(0, gpm="100 100 100"), h100(1), a100(0))
    assert exporter.fresh()[key("gpu_sm_active_ratio", gpu=0)] == 1


def test_before_the_second_poll_gpm_is_supported_and_has_no_value(fake: FakeNvml, start: Start) -> None:
    fake.says(h100(0))
    found = samples(start(None, "--interval", "30").get()[2])
    assert GPM & names(found) == set()
    assert all(supported(found).values())


def test_counters_follow_the_driver(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    energies = []
    for step in range(4):
        fake.says(a100(0, energy_mj=step * 250))
        energies.append(exporter.fresh()[key("gpu_energy_joules_total", gpu=0)])
    assert energies == [0, 0.25, 0.5, 0.75]


def test_pcie_counters_of_32_bits_go_on_where_they_wrap(fake: FakeNvml, start: Start) -> None:
    sent, received = (
        key("gpu_pcie_bytes_total", gpu=0, direction="tx"),
        key("gpu_pcie_bytes_total", gpu=0, direction="rx"),
    )
    fake.says(a100(0, pcie_sent_bytes=f"32:{2**32 - 100}", pcie_received_bytes="32:5"))
    exporter = start()
    found = exporter.fresh()
    assert (found[sent], found[received]) == (0, 0)
    fake.says(a100(0, pcie_sent_bytes="32:50", pcie_received_bytes="32:6"))
    found = exporter.fresh()
    assert (found[sent], found[received]) == (150, 1)


def test_names_are_escaped(fake: FakeNvml, start: Start) -> None:
    name = 'a "GPU" with \\ in its name'
    fake.says(a100(0, name=name))
    assert key("gpu_info", gpu=0, name=name, vendor="NVIDIA", driver_version="580.95.05") in start().fresh()


def test_routes(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    status, kind, _ = exporter.get("/metrics?name[]=x")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert exporter.get("/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert [exporter.get(route)[0] for route in ("/", "/metric", "/metrics/", "/favicon.ico")] == [404] * 4


def test_who_connects_and_asks_nothing_or_goes_away_is_in_nobodys_way(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    port = int(exporter.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port)) as hasty:
                hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no FIN
                hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert exporter.get()[0] == 200


def test_a_scrape_asks_the_gpus_nothing(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start(None, "--interval", "30")
    texts = {exporter.get()[2] for _ in range(5)}
    assert len(texts) == 1


def test_a_driver_that_hangs_is_told_from_values_that_do_not_change(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    fake.says(a100(0, delay_s=9))
    began = time.monotonic()
    while exporter.get()[0] == 200:
        assert time.monotonic() - began < 8
        time.sleep(0.1)
    assert time.monotonic() - began > 4
    assert exporter.get()[::2] == exporter.get("/healthz")[::2] == (503, "the NVIDIA driver does not answer\n")
    fake.says(a100(0))
    due = time.monotonic() + 120
    while exporter.get()[0] != 200:
        assert time.monotonic() < due
        time.sleep(0.1)


def test_it_ends_while_the_driver_hangs(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    fake.says(a100(0, delay_s=600))
    time.sleep(0.5)
    assert exporter.end() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_status_0(fake: FakeNvml, start: Start, number: int) -> None:
    fake.says(h100(0), h100(1) | LOST)
    assert start().end(number) == (0, "")


def test_it_is_one_process(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    exporter = start()
    exporter.fresh()
    itself = psutil.Process(exporter.process.pid)
    assert itself.children() == []
    assert itself.num_threads() == 2  # one serves, one polls


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "9401"], "--listen 9401: write ADDR:PORT, as in 127.0.0.1:9401"),
        (["--listen", ":9401"], "--listen :9401: write"),
        (["--listen", "127.0.0.1:65536"], "--listen 127.0.0.1:65536: write"),
        (["--listen", "127.0.0.1:http"], "--listen 127.0.0.1:http: write"),
        (["--listen", "nowhere.invalid:9401"], "--listen nowhere.invalid:9401: "),
        (["--listen", "..:9401"], "--listen ..:9401: "),
        (["--listen", "192.0.2.1:9401"], "--listen 192.0.2.1:9401: Cannot assign requested address; give another"),
        (["--interval", "0.09"], "--interval 0.09: it must be a number of seconds from 0.1 to 3600."),
        (["--interval", "1e300"], "--interval 1e300: "),
        (["--interval", "-1"], "--interval -1: "),
        (["--interval", "nan"], "--interval nan: "),
        (["--interval", "inf"], "--interval inf: "),
        (["--interval", "1s"], "--interval 1s: "),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_mistake_is_named_with_its_flag(fake: FakeNvml, arguments: list[str], words: str) -> None:
    fake.says(a100(0))
    assert words in refused(fake.environment, *arguments)


def test_a_port_that_is_taken_is_named(fake: FakeNvml) -> None:
    fake.says(a100(0))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"--listen {listen}: Address already in use; give another" in refused(
            fake.environment, "--listen", listen
        )


def test_without_a_driver_it_says_why(tmp_path: Path, fake: FakeNvml) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()  # no library, and found before any that this machine may have
    assert "gpu-exporter: no NVIDIA driver: its library" in refused(FakeNvml(tmp_path).environment)
    fake.says(a100(0), init=f"!{pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH}")
    assert "restart the machine" in refused(fake.environment)
    fake.says()
    assert "has no GPU that we may use" in refused(fake.environment)


def test_cuda_visible_devices_hides_nothing_of_the_machine(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0), a100(1))
    found = start(fake.environment | {"CUDA_VISIBLE_DEVICES": ""}).fresh()
    assert found[key("gpu_exporter_gpus", state="ok")] == 2


def test_it_listens_where_it_is_told(fake: FakeNvml, start: Start) -> None:
    fake.says(a100(0))
    port = free_port()
    exporter = start(None, "--listen", f"[::1]:{port}")
    assert exporter.url == f"http://[::1]:{port}/metrics"
    assert exporter.get()[0] == 200


@pytest.fixture
def promtool() -> str:
    """Prometheus's own checker; ``scripts/test`` installs it."""
    found = shutil.which("promtool")
    assert found is not None
    return found


def test_prometheus_finds_nothing_to_say_against_the_names(fake: FakeNvml, start: Start, promtool: str) -> None:
    fake.says(h100(0, processes="1:1"), a100(1) | LOST)
    exporter = start()
    exporter.fresh()
    command = [promtool, "check", "metrics"]
    done = subprocess.run(command, input=exporter.get()[2], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_prometheus_scrapes_it(fake: FakeNvml, start: Start, tmp_path: Path) -> None:
    fake.says(h100(0, energy_mj=5000), h100(1))
    exporter = start()
    jobs = {"gpu": exporter.url.removeprefix("http://")}
    with prometheus(tmp_path / "prometheus", jobs) as server:
        server.wait_until_up(jobs)
        assert server.value("sum(gpu_energy_joules_total)") == 5
        rows: list[dict[str, Any]] = server.query("gpu_power_watts")
        assert {row["metric"]["gpu"]: row["metric"]["uuid"] for row in rows} == dict(zip("01", UUIDS, strict=True))

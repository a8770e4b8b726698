"""Energy: joules in a window, from counters or from power, and what they come to for a token."""

import subprocess
import time

import msgspec
import pytest
from conftest import CHAT, ROOT
from hypothesis import given
from hypothesis import strategies as st
from launching import SIMULATED, Home
from nvml import a100, fake_nvml
from support.locust_process import LOCUST

from loadgen.measure.energy import Energy, EnergySample, cost_per_million, figures, used

SECOND = 1_000_000_000
WATTS = 300.0
SWEEP = ROOT / "locustfiles" / "sweep.py"


def samples(*joules: float | None, watts: float | None = None) -> list[EnergySample]:
    """One a second."""
    return [EnergySample(i * SECOND, j, watts) for i, j in enumerate(joules)]


def test_the_counter_tells_what_was_used_between_two_times() -> None:
    counted = samples(1000, 1300, 1600, 1900, watts=9.0)
    assert used(counted, SECOND // 2, 5 * SECOND // 2) == Energy(600.0, 2.0, "counter")


def test_without_a_counter_the_power_is_integrated() -> None:
    measured = [EnergySample(i * SECOND, None, w) for i, w in enumerate((100.0, 200.0, 200.0, 100.0))]
    assert used(measured, 0, 3 * SECOND) == Energy(500.0, 3.0, "power")
    assert used(measured, SECOND // 2, SECOND) == Energy(pytest.approx(87.5), 0.5, "power")


@pytest.mark.parametrize(
    "unknown",
    [
        [],
        samples(1000),
        samples(1000, None, 1300),
        samples(1000, 900, 1300, 1400),  # the driver was loaded anew
        samples(1000, 1100)[:2],
        [EnergySample(20 * SECOND, 5.0, None), EnergySample(30 * SECOND, 6.0, None)],
    ],
)
def test_what_was_not_measured_over_the_whole_window_is_not_told(unknown: list[EnergySample]) -> None:
    assert used(unknown, 0, 10 * SECOND) is None


@given(st.lists(st.floats(0, 1000), min_size=3, max_size=30), st.data())
def test_windows_side_by_side_add_up(steps: list[float], data: st.DataObject) -> None:
    total, counted = 0.0, []
    for index, step in enumerate(steps):
        total += step
        counted.append(EnergySample(index * SECOND, total, None))
    last = (len(steps) - 1) * SECOND
    cut = data.draw(st.integers(1, last - 1))
    first, second, whole = used(counted, 0, cut), used(counted, cut, last), used(counted, 0, last)
    assert first is not None
    assert second is not None
    assert whole is not None
    assert first.joules + second.joules == pytest.approx(whole.joules, abs=1e-6)


def test_joules_come_to_so_much_a_token_and_hours_to_so_much_a_million() -> None:
    found = figures(Energy(600.0, 2.0, "counter"), 1200.0, 4.0)
    assert found["watts"] == 300
    assert found["joules_per_output_token"] == 0.5
    assert found["joules_per_request"] == 150
    assert found["tokens_per_second_per_watt"] == 2  # 600 tokens/s at 300 W
    assert cost_per_million(3600, 1e6, 2, 1.5) == 3
    assert cost_per_million(3600, None, 2, 1.5) is cost_per_million(3600, 1e6, 0, 1.5) is None
    assert figures(Energy(0.0, 1.0, "counter"), 5.0, 1.0)["joules_per_output_token"] is None


def test_a_run_on_gpus_tells_its_energy_and_its_cost(
    home: Home, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPUs of a fake driver use 300 W each, from the start to the end."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = fake_nvml(tmp_path_factory.mktemp("nvml"))
    home.more = {name: fake.environment[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    began = time.monotonic()

    def go_on() -> None:
        energy = int(1000 * WATTS * (time.monotonic() - began))
        fake.says(*(a100(i, energy_mj=energy, power_mw=int(1000 * WATTS)) for i in (0, 1)))

    go_on()
    (home.folder / "mine.py").write_text(SIMULATED.replace("startup_s=1", 'startup_s=1, split="tensor"'))
    up = home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama", "--gpus", "0,1", "--option", "gap=20")
    assert up.returncode == 0, up.stderr
    (running,) = home.engines()
    results = home.folder / "results"
    command = [*LOCUST, "-f", str(CHAT), "--headless", "--users", "1", "--host", running.host, "--sample", "30"]
    command += ["--max-tokens", "10", "--price-per-gpu-hour", "1.8", "--results", str(results)]
    with subprocess.Popen(command, env=home.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None:
            go_on()
            time.sleep(0.05)
    (folder,) = results.iterdir()
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    energy = summary["energy"]
    assert energy["source"] == "counter"
    assert energy["gpus"] == 2
    assert energy["watts"] == pytest.approx(2 * WATTS, rel=0.1)
    assert energy["joules_per_output_token"] == pytest.approx(energy["joules"] / (30 * 10))
    assert energy["cost_per_million_output_tokens"] == pytest.approx(1.8 * 2 * energy["seconds"] / 3600 / 300 * 1e6)
    report = (folder / "report.md").read_text()
    assert "## Energy and cost" in report
    assert "energy an output token, J" in report
    assert "by their energy counters" in report


def test_every_step_of_a_sweep_tells_its_own(
    home: Home, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = fake_nvml(tmp_path_factory.mktemp("nvml"))
    home.more = {name: fake.environment[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    fake.says(a100(0, energy_mj=None, power_mw=int(1000 * WATTS)))
    (home.folder / "mine.py").write_text(SIMULATED)
    assert home.loadgen("engine", "up", "./mine.py", "--model", "tiny-llama").returncode == 0
    (running,) = home.engines()
    results = home.folder / "results"
    command = [*LOCUST, "-f", str(SWEEP), "--headless", "--host", running.host, "--sample", "30", "--max-tokens", "10"]
    command += ["--steps", "1,4", "--step-time", "6", "--results", str(results)]
    subprocess.run(command, env=home.environment, capture_output=True, check=False)
    (folder,) = results.iterdir()
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    first, second = (step["energy"] for step in summary["steps"])
    assert first["watts"] == second["watts"] == pytest.approx(WATTS)
    assert second["joules_per_output_token"] < first["joules_per_output_token"]  # four share what one had alone
    assert summary["energy"] == second
    assert summary["energy"]["source"] == "power"
    assert "which is less exact" in (folder / "report.md").read_text()

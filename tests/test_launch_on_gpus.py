"""Launching on GPUs that are not there: which engine gets which of them, and what is said where they do not do."""

import os
import re
import signal
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from conftest import CHAT
from launching import SIMULATED, Home, wait_for
from nvml import GIB, FakeNvml, a100, fake_nvml
from support.locust_process import LOCUST
from test_engine_command import docker

from loadgen.launch.processes import marked
from loadgen.matrix.config_file import specification
from loadgen.measure.facts import GpuFacts, kind

ON_GPUS = SIMULATED.replace('weight_format="none", startup_s=1', 'weight_format="none", startup_s=1, split="tensor"')


IMPATIENT = """
from loadgen.cli import main
from loadgen.launch import launcher
launcher._FREED_S = 0.5
raise SystemExit(main())
"""
"""``loadgen``, waiting half a second for a GPU's memory instead of half a minute."""

LOST = {"error": "!15"}
"""What one says that has fallen off the bus."""


@pytest.fixture
def gpus(home: Home, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two idle A100, for all processes of a home."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = fake_nvml(tmp_path_factory.mktemp("nvml"))
    fake.says(a100(0), a100(1))
    home.more = {name: fake.environment[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")}
    (home.folder / "mine.py").write_text(ON_GPUS)
    (home.folder / "layers.py").write_text(
        ON_GPUS.replace('split="tensor"', 'split="layers"')
        .replace("Mine 1.0", "Layers 1.0")
        .replace('"mine"', '"layers"')
    )
    return fake


def up(home: Home, model: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Start the engine of one file with a model of random weights, of which it needs none."""
    return home.loadgen("engine", "up", "./mine.py", "--model", model, "--weights", "random", *arguments)


def impatient(home: Home, *arguments: str) -> "subprocess.Popen[str]":
    """Start a command that does not wait long for memory; what it says on standard error can be read."""
    command = [sys.executable, "-c", IMPATIENT, *arguments]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=home.folder, env=home.environment, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, text=True
    )


def said_by(process: "subprocess.Popen[str]") -> str:
    """Wait for its end; return what it has said."""
    return process.communicate(timeout=120)[1]


def simulated(home: Home) -> list[str]:
    """Engines' processes that are there."""
    return [line for line in home.processes() if "loadgen.engines.simulated" in line]


def write(home: Home, *engines: str, models: str = "vicuna-13b-v1.5", name: str = "matrix", also: str = "") -> str:
    """Write a matrix of one part; return its file's name."""
    text = MATRIX.format(engines=", ".join(f'"./{engine}.py"' for engine in engines), models=models)
    (home.folder / f"{name}.toml").write_text(text + also)
    return f"{name}.toml"


def page_of(home: Home) -> str:
    """The tables of the one matrix."""
    (page,) = home.folder.glob("results/matrix-*/matrix.md")
    return page.read_text()


def environment_of(home: Home) -> dict[str, str]:
    """The variables that the one engine's process has."""
    (running,) = home.engines()
    variables: dict[str, str] = marked(running.id)[0].environ()
    return variables


@pytest.mark.usefixtures("gpus")
def test_a_13b_gets_one_gpu_and_a_run_on_it_knows_which(home: Home) -> None:
    assert up(home, "vicuna-13b-v1.5").returncode == 0
    variables = environment_of(home)
    assert (variables["CUDA_VISIBLE_DEVICES"], variables["CUDA_DEVICE_ORDER"]) == ("0", "PCI_BUS_ID")
    (running,) = home.engines()
    results = home.folder / "results"
    command = [*LOCUST, "-f", str(CHAT), "--headless", "--users", "1", "--host", running.host, "--sample", "30"]
    subprocess.run([*command, "--max-tokens", "4", "--results", str(results)], env=home.environment, check=True)
    (folder,) = results.iterdir()
    launched: dict[str, Any] = msgspec.json.decode((folder / "run.json").read_bytes())["launched"]
    (gpu,) = launched["gpus"]
    assert (gpu["name"], gpu["driver"], gpu["power_cap_w"]) == ("NVIDIA A100-SXM4-80GB", "580.95.05", 350.5)
    assert gpu["links"] == {"1": "NV12"}
    assert gpu["max_sm_clock_mhz"] == 1410
    page = (folder / "report.md").read_text()
    assert "NVIDIA A100-SXM4-80GB, driver 580.95.05, power cap 350.5 W" in page
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    assert summary["launched"]["bound"]["tokens_per_second"] == pytest.approx(78.3, abs=0.05)
    share = (
        100 * summary["speed"]["tokens_per_second_mean"]["value"] / summary["launched"]["bound"]["tokens_per_second"]
    )
    assert f"| of the memory-bandwidth bound of 1x A100-SXM4-80GB | {share:.0f} % |" in page


def test_a_70b_gets_both_or_is_refused(home: Home, gpus: FakeNvml) -> None:
    assert up(home, "llama2-70b-chat").returncode == 0
    assert environment_of(home)["CUDA_VISIBLE_DEVICES"] == "0,1"
    home.loadgen("engine", "down")
    gpus.says(a100(0))
    refused = up(home, "llama2-70b-chat")
    assert refused.returncode == 2
    too_much = "needs 139 GB for weights and KV cache: too much for 1 x NVIDIA A100-SXM4-80GB. Name GPUs to try it"
    assert f"llama2-70b-chat {too_much}" in refused.stderr
    forced = up(home, "llama2-70b-chat", "--gpus", "0")
    assert forced.returncode == 0, forced.stderr
    assert environment_of(home)["CUDA_VISIBLE_DEVICES"] == "0"


def test_three_gpus_are_as_good_as_two(home: Home, gpus: FakeNvml) -> None:
    gpus.says(*(a100(0, name="NVIDIA L4", memory_total=24 * GIB, nvlinks=None) for _ in range(3)))
    refused = up(home, "oasst-30b")
    assert refused.returncode == 2
    assert "too much for 2 x NVIDIA L4." in refused.stderr


def test_gpus_that_are_named_are_used_or_refused(home: Home, gpus: FakeNvml) -> None:
    assert up(home, "tiny-llama", "--gpus", "1").returncode == 0
    assert environment_of(home)["CUDA_VISIBLE_DEVICES"] == "1"
    home.loadgen("engine", "down")
    gpus.says(a100(0), a100(1) | LOST)
    mistakes = {
        "5": "GPU 5: there is none of that number; there are: 0, 1.",
        "0,0": "GPU 0 is named twice.",
        "0,1": "GPU 1 does not say what it is: is it lost (nvidia-smi)?",
    }
    for named, expected in mistakes.items():
        refused = up(home, "tiny-llama", "--gpus", named)
        assert (refused.returncode, expected in refused.stderr) == (2, True), refused.stderr
    assert home.engines() == []


def test_a_gpu_that_has_fallen_off_the_bus_is_not_used(home: Home, gpus: FakeNvml) -> None:
    gpus.says(a100(0) | LOST, a100(1))
    assert up(home, "tiny-llama").returncode == 0
    assert environment_of(home)["CUDA_VISIBLE_DEVICES"] == "1"
    refused = up(home, "llama2-70b-chat")
    assert "too much for 1 x NVIDIA A100-SXM4-80GB" in refused.stderr
    home.more = {**home.more, "PATH": str(home.folder)}  # where there is no compiler
    told = home.loadgen("engine", "check", "vllm-0.1.3").stdout
    assert "it is compiled when it is installed, and nvcc is not on the PATH" in " ".join(told.split())
    assert "GPUs: 0 does not say what it is, and is not used; 1 NVIDIA A100-SXM4-80GB, 84.8 GB of 85.9 GB" in told
    gpus.says(a100(0) | LOST, a100(1) | LOST)
    assert "it needs a GPU, and there is none" in home.loadgen("engine", "check", "vllm-0.1.3").stdout
    gpus.says(a100(0), a100(1))  # or its memory would be waited for


def test_too_little_free_memory_is_told_with_how_much_there_is(home: Home, gpus: FakeNvml) -> None:
    gpus.says(a100(0, memory_used=60 * GIB), a100(1))
    refused = up(home, "vicuna-13b-v1.5")
    assert refused.returncode == 2
    reason = "vicuna-13b-v1.5 needs 29.7 GB of GPU 0 (NVIDIA A100-SXM4-80GB), 20.4 GB are free"
    assert reason in refused.stderr
    assert home.engines() == []
    planned = home.loadgen("matrix", write(home, "mine"), "--dry-run")
    assert reason in planned.stdout
    assert up(home, "vicuna-13b-v1.5", "--gpus", "1").returncode == 0


def test_memory_that_does_not_come_back_is_told_when_an_engine_is_stopped(home: Home, gpus: FakeNvml) -> None:
    assert up(home, "tiny-llama", "--gpus", "0").returncode == 0
    gpus.says(a100(0, memory_used=2 * GIB), a100(1))
    assert up(home, "tiny-llama", "--gpus", "0,1").returncode == 0
    first, second = sorted(home.engines(), key=lambda one: one.gpus)
    taken = "memory that was free before mine is still taken"
    gpus.says(a100(0, memory_used=4 * GIB), a100(1, memory_used=4 * GIB))
    assert f"GPU 1: {taken}" in said_by(impatient(home, "engine", "down", second.id))  # 0 is still in use
    assert f"GPU 0: {taken}" in said_by(impatient(home, "engine", "down", first.id))
    assert up(home, "tiny-llama").returncode == 0
    assert "still taken" not in home.loadgen("engine", "down").stderr  # not by it


def test_memory_that_a_killed_matrix_held_is_waited_for(home: Home, gpus: FakeNvml) -> None:
    (home.folder / "mine.py").write_text(ON_GPUS.replace('"5"', '"500"'))
    matrix = home.start("matrix", write(home, "mine"))
    wait_for(lambda: home.engines() and home.engines()[0].launched)
    gpus.says(a100(0, memory_used=70 * GIB), a100(1))
    matrix.kill()
    matrix.wait()
    next_one = impatient(home, "engine", "up", "./mine.py", "--model", "vicuna-13b-v1.5")
    wait_for(lambda: simulated(home) == [])
    gpus.says(a100(0), a100(1))
    said = said_by(next_one)
    assert next_one.returncode == 0, said
    assert "left by a process that was killed" in said
    wait_for(lambda: not any("locust" in line for line in home.processes()))  # the matrix's client finds nobody


def test_the_specification_is_planned_on_a_pair_of_a100(home: Home, gpus: FakeNvml) -> None:
    place = docker(home.folder)
    (place / "nvcc").write_text("#!/bin/sh\n")  # vLLM 0.1.3 is compiled
    (place / "nvcc").chmod(0o700)
    home.more = {**home.more, "PATH": f"{place}:{os.environ['PATH']}", "HF_TOKEN": "hf_secret", "COLUMNS": "240"}
    (home.folder / "matrix.toml").write_text(specification())
    done = home.loadgen("matrix", "matrix.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout
    rows = {(r[1], r[2]): r for line in done.stdout.splitlines() if len(r := line.split()) > 4 and r[0].isdigit()}
    assert len(rows) == 18
    assert "in the way" not in done.stdout
    assert re.search(r"At most about \d+\.\d h\.", done.stdout)
    for (model, engine), row in rows.items():
        where = " ".join(row[3:])
        if model != "llama2-70b-chat":
            assert re.fullmatch(r"on GPU 0 \d+\.\d \d+ min", where)
        else:
            split = "layers in turn" if engine == "transformers-4.31.0" else "tensor parallel"
            assert re.fullmatch(rf"on GPU 0, 1, {split} 138\.6 \d+ min", where)
    assert [rows["oasst-30b", "vllm-0.1.3"][6], rows["vicuna-13b-v1.5", "tgi-1.0.1"][6]] == ["67.9", "27.7"]
    lines = done.stdout.partition("1. mpt-7b-chat")[2]
    assert lines.count("--tensor-parallel-size 2") == 1
    assert lines.count("--num-shard 2") == 1
    assert lines.count("--num-shard 1") == 5
    assert lines.count("--num-gpus 2") == 1
    assert lines.count("""--gpus '"device=0,1"'""") == 1
    commands = [line for line in lines.splitlines() if line.startswith("   CUDA_DEVICE_ORDER=PCI_BUS_ID ")]
    assert [" CUDA_VISIBLE_DEVICES=0 " in line for line in commands] == [True] * 15 + [False] * 3
    assert [" CUDA_VISIBLE_DEVICES=0,1 " in line for line in commands] == [False] * 15 + [True] * 3
    assert not (place / "record").read_text().count('"run"')
    assert (home.engines(), home.processes()) == ([], [])
    gpus.says(a100(0, mig=1), a100(1, mig=1))  # a slice of a card is slower, nobody knows how much
    cut = home.loadgen("matrix", "matrix.toml", "--dry-run")
    assert "How long it takes cannot be told." in cut.stdout


MATRIX = """\
engines = [{engines}]
models = ["{models}"]
dataset = "samples"
sample = 30
max_tokens = 4
warmup = 1
weights = "random"
measure = ["speed"]
"""


@pytest.mark.usefixtures("gpus")
def test_the_tables_have_the_share_of_the_bound_by_how_the_model_is_split(home: Home) -> None:
    done = home.loadgen("matrix", write(home, "mine", "layers", models='vicuna-13b-v1.5", "llama2-70b-chat'))
    home.assert_ended_well(done)
    text = page_of(home)
    for bound in ("78.3", "29.6", "14.8"):
        assert f"% of bound {bound}" in text
    for of in ("1x A100-SXM4-80GB", "2x A100-SXM4-80GB, tensor parallel", "2x A100-SXM4-80GB, layers in turn"):
        assert of in text


def test_a_gpu_that_is_cut_has_no_bound(home: Home, gpus: FakeNvml) -> None:
    gpus.says(a100(0, mig=1))
    done = home.loadgen("matrix", write(home, "mine"))
    home.assert_ended_well(done)
    assert "Speed, output tokens/s of one user" in page_of(home)
    assert "of bound" not in page_of(home)
    reports = list(home.folder.glob("results/matrix-*/cells/*/*/*/*/*/report.md"))
    assert len(reports) == 2
    for report in reports:
        assert "NVIDIA A100-SXM4-80GB, driver" in report.read_text()
        assert "bandwidth bound" not in report.read_text()


def test_a_bound_is_that_of_whole_gpus_of_one_kind() -> None:
    one, other = GpuFacts(index=0, name="NVIDIA L4"), GpuFacts(index=1, name="NVIDIA L40S")
    cut = msgspec.structs.replace(one, mig=True)
    assert kind([one, one]) == "NVIDIA L4"
    assert [kind(gpus) for gpus in ([], [one, other], [one, cut], [GpuFacts(index=0)])] == [None] * 4


def test_a_matrix_looks_at_the_gpus_anew_before_each_cell(home: Home, gpus: FakeNvml) -> None:
    """What the first cell leaves is told after it, and is in the way of the second."""
    matrix = impatient(home, "matrix", write(home, "mine", "layers"))
    wait_for(lambda: simulated(home))
    gpus.says(a100(0, memory_used=60 * GIB), a100(1))
    said = said_by(matrix)
    assert matrix.returncode == 3, said
    assert "GPU 0: memory that was free before mine is still taken." in said
    assert "[2/2] vicuna-13b-v1.5 on layers: FAILED: vicuna-13b-v1.5 needs 29.7 GB of GPU 0" in said
    assert re.search(r"Failed: .*20\.4 GB are free", page_of(home))


def test_a_matrix_goes_on_without_a_gpu_that_is_lost(home: Home, gpus: FakeNvml) -> None:
    matrix = impatient(home, "matrix", write(home, "mine", "layers"))
    wait_for(lambda: simulated(home))
    gpus.says(a100(0) | LOST, a100(1))
    said = said_by(matrix)
    assert "starting Mine 1.0: CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0 " in said
    assert "starting Layers 1.0: CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1 " in said


def test_matrices_on_different_gpus_do_not_wait_for_each_other(home: Home, gpus: FakeNvml) -> None:
    (home.folder / "mine.py").write_text(ON_GPUS.replace('"5"', '"500"'))
    names = [write(home, "mine", name=str(gpu), also=f"gpus = [{gpu}]\n") for gpu in (0, 1)]
    running = [home.start("matrix", name) for name in names]
    wait_for(lambda: len([one for one in home.engines() if one.launched]) == 2)
    assert sorted(one.gpus for one in home.engines()) == [(0,), (1,)]
    first = rf"GPU 0 is in use by loadgen matrix matrix-\S+ \(pid {running[0].pid}\): wait for it, or end it\."
    for used in (0, 60 * GIB):  # with the first one's model in its memory, too
        gpus.says(a100(0, memory_used=used), a100(1))
        refused = home.loadgen("matrix", names[0])
        assert refused.returncode == 2
        assert re.search(first, refused.stderr), refused.stderr
    gpus.says(a100(0), a100(1))
    for process in running:
        process.send_signal(signal.SIGINT)
    assert [process.wait(timeout=60) for process in running] == [4, 4]
    assert home.processes() == []

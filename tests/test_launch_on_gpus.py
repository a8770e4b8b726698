"""Launching on GPUs that are not there: which engine gets which of them, and what is said where they do not do."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import CHAT, LOCUST
from launching import SIMULATED, Home, wait_for
from nvml import GIB, FakeNvml, a100, fake_nvml
from test_engine_command import docker

from loadgen.launch.processes import marked
from loadgen.matrix.config_file import specification

ON_GPUS = SIMULATED.replace('files="none", startup_s=1', 'files="none", startup_s=1, split="tensor"')


@pytest.fixture
def gpus(home: Home, tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """Two idle A100, for all processes of a home."""
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
    assert (
        "llama2-70b-chat needs 139 GB for weights and KV cache: too much for 1 x NVIDIA A100-SXM4-80GB"
        in refused.stderr
    )
    missing = up(home, "llama2-70b-chat", "--gpus", "5")
    assert "GPU 5: there is none of that number; there are: 0." in missing.stderr


def test_gpus_that_are_named_are_used(home: Home, gpus: FakeNvml) -> None:
    assert up(home, "tiny-llama", "--gpus", "1").returncode == 0
    assert environment_of(home)["CUDA_VISIBLE_DEVICES"] == "1"
    home.loadgen("engine", "down")
    gpus.says(a100(0), a100(1) | {"error": "!15"})  # the second has fallen off the bus
    assert up(home, "tiny-llama").returncode == 0
    assert environment_of(home)["CUDA_VISIBLE_DEVICES"] == "0"


def test_too_little_free_memory_is_told_with_how_much_there_is(home: Home, gpus: FakeNvml) -> None:
    gpus.says(a100(0) | {"memory_used": 60 * GIB}, a100(1))
    refused = up(home, "vicuna-13b-v1.5")
    assert refused.returncode == 2
    assert re.search(r"needs 29\.7 GB of GPU 0 \(NVIDIA A100-SXM4-80GB\), 2\d\.\d GB are free", refused.stderr)
    assert home.engines() == []


@pytest.mark.usefixtures("gpus")
def test_the_specification_is_planned_on_a_pair_of_a100(home: Home) -> None:
    place = docker(home.folder)
    home.more = {**home.more, "PATH": f"{place}:{os.environ['PATH']}", "HF_TOKEN": "hf_secret", "COLUMNS": "240"}
    (home.folder / "matrix.toml").write_text(specification())
    done = home.loadgen("matrix", "matrix.toml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout
    rows = {(r[1], r[2]): r for line in done.stdout.splitlines() if len(r := line.split()) > 4 and r[0].isdigit()}
    assert len(rows) == 18
    assert "in the way" not in done.stdout
    for (model, engine), row in rows.items():
        where = " ".join(row[3:])
        if model != "llama2-70b-chat":
            assert where.startswith("on GPU 0 ")
        else:
            split = "layers in turn" if engine == "transformers-4.31.0" else "tensor parallel"
            assert where.startswith(f"on GPU 0, 1, {split} ")
    lines = done.stdout.partition("1. mpt-7b-chat")[2]
    assert lines.count("--tensor-parallel-size 2") == 1
    assert lines.count("--num-shard 2") == 1
    assert lines.count("--num-shard 1") == 5
    assert lines.count("--num-gpus 2") == 1
    assert """--gpus '"device=0,1"'""" in lines
    assert "CUDA_VISIBLE_DEVICES=0,1 " in lines
    assert not (place / "record").read_text().count('"run"')
    assert home.processes() == []


MATRIX = """\
engines = ["./mine.py", "./layers.py"]
models = ["vicuna-13b-v1.5", "llama2-70b-chat"]
dataset = "samples"
sample = 30
max_tokens = 4
warmup = 1
weights = "random"
measure = ["speed"]
"""


@pytest.mark.usefixtures("gpus")
def test_the_tables_have_the_share_of_the_bound_by_how_the_model_is_split(home: Home) -> None:
    (home.folder / "matrix.toml").write_text(MATRIX)
    done = home.loadgen("matrix", "matrix.toml")
    assert done.returncode == 0, done.stderr
    (page,) = home.folder.glob("results/matrix-*/matrix.md")
    text = page.read_text()
    for bound in ("78.3", "29.6", "14.8"):
        assert f"% of bound {bound}" in text
    for of in ("1x A100-SXM4-80GB", "2x A100-SXM4-80GB, tensor parallel", "2x A100-SXM4-80GB, layers in turn"):
        assert of in text


@pytest.mark.usefixtures("gpus")
def test_matrices_on_different_gpus_do_not_wait_for_each_other(home: Home) -> None:
    slow = ON_GPUS.replace('"5"', '"500"')
    (home.folder / "mine.py").write_text(slow)
    text = MATRIX.replace(', "./layers.py"', "").replace(', "llama2-70b-chat"', "")
    for gpu in (0, 1):
        (home.folder / f"{gpu}.toml").write_text(f"gpus = [{gpu}]\n{text}")
    running = [home.start("matrix", f"{gpu}.toml") for gpu in (0, 1)]
    wait_for(lambda: len([line for line in home.processes() if "engines.simulated" in line]) == 2)
    refused = home.loadgen("matrix", "0.toml")
    assert refused.returncode == 2
    assert re.search(r"GPU 0 is in use by loadgen matrix matrix-|mine runs on GPU 0: stop it first", refused.stderr)
    for process in running:
        process.send_signal(signal.SIGINT)
    assert [process.wait(timeout=60) for process in running] == [4, 4]
    assert home.processes() == []


def test_a_gpu_that_is_cut_has_no_bound(home: Home, gpus: FakeNvml, tmp_path: Path) -> None:
    gpus.says(a100(0) | {"mig": 1})
    (home.folder / "matrix.toml").write_text(MATRIX.replace(', "./layers.py"', "").replace(', "llama2-70b-chat"', ""))
    done = home.loadgen("matrix", "matrix.toml")
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("results/matrix-*/matrix.md")
    assert "% of bound" not in page.read_text()

"""vLLM plots an exported sweep: ``scripts/test --engines``, as vLLM's own code needs PyTorch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from matplotlib.image import imread

from loadgen import read_run
from loadgen.engines.catalogue import ENGINES
from loadgen.engines.engine import Environment
from loadgen.launch import environments
from loadgen.live.status import Status
from loadgen.results.export import export

pytestmark = pytest.mark.engines

PLOTTING = ("pandas", "matplotlib", "seaborn")
"""What ``vllm[bench]`` installs for its plots; the engine's environment stays as it is measured."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the packages of the engine's environment, those of its CPU build, and what plots need."""
    (environment,) = [
        launch.runs_in
        for launch in ENGINES["vllm"].launches
        if isinstance(launch.runs_in, Environment) and not launch.needs_gpu
    ]
    environments.make(environment, "vllm", Status())
    folder = tmp_path_factory.mktemp("plots")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (engine,) = environments.folder(environment, "vllm").glob("lib/python*/site-packages")
    (packages / "engine.pth").write_text(f"{engine}\n")
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *PLOTTING], check=True)
    return folder / "bin" / "python"


def test_vllm_plots_the_steps_of_an_exported_sweep(python: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vllm"
    files = export(read_run(ROOT / "tests" / "kept" / "sweep"), "vllm", folder)
    for plot, arguments, figure in (
        ("plot_pareto", [], "pareto/PARETO.png"),
        ("plot", ["--var-x", "max_concurrency", "--var-y", "median_ttft_ms"], "FIGURE.png"),
    ):
        done = subprocess.run(
            [str(python), "-m", f"vllm.benchmarks.sweep.{plot}", str(folder), *arguments],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MPLBACKEND": "agg", "VLLM_NO_USAGE_STATS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert imread(folder / figure).std() > 0
        sys.stdout.write(f"vllm bench sweep {plot}: {done.stdout}")
        if plot == "plot_pareto":
            assert f"Plotted {len(files) // 2} points" in done.stdout


def test_vllm_divides_the_throughput_of_each_step_by_its_users(python: Path, tmp_path: Path) -> None:
    files = export(read_run(ROOT / "tests" / "kept" / "sweep"), "vllm", tmp_path / "vllm")
    code = """
import json, sys
from vllm.benchmarks.sweep.plot_pareto import _prepare_records
data = [found for path in sys.argv[1:] for found in json.load(open(path))]
points, skipped = _prepare_records(data, user_count_var="max_concurrency", gpu_count_var=None)
print(json.dumps([skipped, *[[p["user_count_estimate"], p["tokens_per_user"]] for p in points]]))
"""
    summaries = [str(path) for path in files if path.name == "summary.json"]
    done = subprocess.run([str(python), "-c", code, *summaries], capture_output=True, text=True, check=True)
    skipped, *points = json.loads(done.stdout.splitlines()[-1])
    assert skipped == 0
    assert [users for users, _ in points] == [1, 2, 4]
    assert all(49 < tokens < 51 for _, tokens in points)  # 8 tokens in each 160 ms

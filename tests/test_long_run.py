"""Long runs: their report takes memory for the records and nothing that grows faster."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Locust, clean_environment
from serving import answer, serving

from loadgen.measure.statistics import LARGEST_BOOTSTRAP, mean, ratio_of_totals

ANSWERS = 6_000
LIMIT_MB = 300
"""A process with our libraries has 100. Resamples of 6,000 answers all at once take 1,000."""

REPORT = """
import sys
from pathlib import Path
from loadgen.cli import main
status = main(["report", sys.argv[1]])
print([line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")][0].split()[1])
sys.exit(status)
"""


def test_the_report_of_a_long_run_of_one_user_takes_little_memory(locust: Locust, tmp_path: Path) -> None:
    with serving(lambda *_: answer(8)) as server:
        short = locust("--host", server.url, "--sample", "3", "--warmup", "0", "--max-tokens", "8").folder
    folder = lengthened(short, tmp_path / "long", ANSWERS)
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(folder)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["requests"]["completed"] == ANSWERS, done.stderr
    low, high = summary["speed"]["tokens_per_second_mean"]["ci95"]
    assert low < summary["speed"]["tokens_per_second_mean"]["value"] < high
    assert int(done.stdout.splitlines()[-1]) < LIMIT_MB * 1024


def lengthened(short: Path, folder: Path, answers: int) -> Path:
    """Write a run like a short one, with as many answers, one after another."""
    folder.mkdir()
    manifest = json.loads((short / "run.json").read_text())
    manifest["planned_requests"] = answers
    manifest["ended"]["started_requests"] = manifest["workers"][0]["started_requests"] = answers
    (folder / "run.json").write_text(json.dumps(manifest))
    first: dict[str, Any] = json.loads((short / "records.jsonl").read_text().splitlines()[0])
    period = 2 * (first["end_ns"] - first["connect_ns"])
    with (folder / "records.jsonl").open("w") as file:
        for i in range(answers):
            late = i * period
            times = {k: v + late for k, v in first.items() if k.endswith("_ns") and v and not is_width(k)}
            times["end_ns"] += i % 7 * period // 10
            file.write(json.dumps(first | times | {"request_id": f"long-{i}", "round": i}) + "\n")
    return folder


def is_width(name: str) -> bool:
    """Whether a value of a record is no time, but how widely one is known; or times of many chunks."""
    return name.endswith("_interval_ns") or name in {"read_delay_ns", "chunk_ns"}


def test_the_interval_of_a_mean_is_that_of_the_bootstrap() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).gamma(2.0, 30.0, 500)
    rng = np.random.default_rng(0)
    theirs = bootstrap((values,), np.mean, n_resamples=9_999, method="percentile", rng=rng, batch=50)
    found = mean(values.tolist())
    assert found is not None
    assert found.ci95 == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)


def test_where_resampling_ends_the_interval_hardly_changes() -> None:
    rng = np.random.default_rng(5)
    tokens = rng.integers(1, 512, LARGEST_BOOTSTRAP + 1).astype(float)
    seconds = tokens * rng.gamma(20.0, 0.001, len(tokens))
    for estimate in (
        lambda n: mean(tokens[:n].tolist()),
        lambda n: ratio_of_totals(tokens[:n].tolist(), seconds[:n].tolist()),
    ):
        resampled, beyond = estimate(LARGEST_BOOTSTRAP), estimate(LARGEST_BOOTSTRAP + 1)
        assert resampled is not None
        assert beyond is not None
        assert resampled.ci95 is not None
        low, high = resampled.ci95
        assert beyond.ci95 == pytest.approx(resampled.ci95, abs=0.05 * (high - low))

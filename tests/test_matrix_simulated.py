"""Rows of the specification's matrix on the simulated engine, up to the tables; ``scripts/bench matrix`` has all."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

import pytest
from conftest import ROOT, records_of
from launching import Home

from loadgen.clock import SECOND
from loadgen.matrix.gather import results
from loadgen.matrix.matrix import reopen
from loadgen.matrix.reference import SPEED, THROUGHPUT, Reference
from loadgen.measure.verdict import Verdict
from loadgen.record import Outcome, Phase
from loadgen.results.summary_schema import Summary

FILES = ROOT / "scripts" / "benchmarks" / "matrices"
MODELS = ("vicuna-13b-v1.5", "llama2-70b-chat")
SHORTER = {
    "sample = 20": "sample = 3\nwarmup = 1",
    "step_time = 45": "step_time = 15",
    "step_time = 20": "step_time = 10",
    '"mpt-7b-chat", "falcon-7b-instruct", "vicuna-13b-v1.3", ': "",
    '"oasst-30b", ': "",
}
SHORTER |= {"8,32,64": "32", "8,16,32": "16"}
FASTER = ('like = "transformers-4.31.0", time_factor = 100', 'like = "transformers-4.31.0", time_factor = 300')
"""Not where the speed of one user is measured: there what a request costs beside its tokens shows, 1.4 %."""

LEAST, MOST = 0.5, 1.01
"""Share of a reference figure. An engine is never faster than its model; a busy machine makes it slower. That all are
within 1 % is shown by ``scripts/bench matrix``, on a machine that does nothing else."""


@pytest.mark.parametrize(
    ("name", "references"),
    [
        ("simulated-speed", {key: known for key, known in SPEED.items() if key[1] in MODELS}),
        ("simulated-throughput", THROUGHPUT),
    ],
    ids=["6 figures of speed", "3 figures of throughput"],
)
def test_the_tables_are_the_reference_figures(
    home: Home, name: str, references: Mapping[tuple[str, str], Reference]
) -> None:
    text = (FILES / f"{name}.toml").read_text()
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    if name == "simulated-throughput":
        text = text.replace(*FASTER)
    (home.folder / "matrix.toml").write_text(text)
    done = home.loadgen("matrix", "matrix.toml", timeout=280)
    assert done.returncode in {0, 3, 4}, done.stderr  # three prompts are too few for a verdict
    matrix = reopen(None, home.folder / "results")
    found = {(r.reference, r.model): r for r in results(matrix)}
    speeds = [mean_speed(folder) for cell in matrix.cells() if (folder := cell.run_of("speed")) is not None]
    assert len(references) == {"simulated-speed": 6, "simulated-throughput": 3}[name]
    for key, known in references.items():
        result = found[key]
        if name == "simulated-speed":
            of_one_user = result.speed[0].speed
            assert of_one_user is not None
            assert of_one_user.tokens_per_second_mean is not None
            value = of_one_user.tokens_per_second_mean.value
            assert value is not None
            assert any(value == pytest.approx(speed) for speed in speeds), "the figure is that of a run's own records"
        else:
            value = requests_per_minute(result.throughput[0])
        assert LEAST * known.value < value / result.time_factor < MOST * known.value, key
    page = folder_page(home.folder)
    assert "SIMULATED" in page.splitlines()[0]
    for known in references.values():
        assert f"{known.value:.2f}" in page or f"{known.value:g}" in page
    assert "100 times as fast" in page


def requests_per_minute(summary: Summary) -> float:
    """The headline; of a sweep that this machine disturbed so much that it has none, what its last step shows."""
    assert summary.throughput is not None
    headline = summary.throughput.requests_per_minute
    if headline is None:
        assert summary.verdict.status is not Verdict.VALID
        headline = (summary.steps or [])[-1].requests_per_minute
    assert headline is not None
    assert headline.value is not None
    return headline.value


def mean_speed(run: Path) -> float:
    """Output tokens over the round trip, averaged over the measured answers, from what the records say."""
    measured = [r for r in records_of(run) if r.phase is Phase.MEASURE and r.outcome is Outcome.OK]
    return mean((r.output_tokens or 0) * SECOND / ((r.end_ns or 0) - (r.sent_ns or 0)) for r in measured)


def folder_page(folder: Path) -> str:
    (page,) = folder.glob("results/matrix-*/matrix.md")
    return page.read_text()

"""Sweeps by a real process of an engine whose capacity is known: what they find, and when they end."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Finished
from running import WORDS, conserved, run_locustfile, write_prompts

from loadgen.engines.simulated.batching import PROFILES
from loadgen.launch.simulated import SimulatedServer, start_simulated
from loadgen.record import Phase

OUTPUT, FACTOR = 64, 6
CAPACITY = 60 * FACTOR * PROFILES["batch-bound"].requests_per_second(WORDS, OUTPUT)


@contextmanager
def engine(folder: Path, profile: str, factor: float) -> Iterator[SimulatedServer]:
    server = start_simulated(folder / "truth.jsonl", profile=profile, time_factor=factor)
    try:
        yield server
    finally:
        server.child.stop()


def sweep(folder: Path, profile: str, factor: float, *arguments: str) -> Finished:
    prompts = write_prompts(folder / "prompts.jsonl")
    with engine(folder, profile, factor) as server:
        of = ["--host", server.host, "--dataset", str(prompts), "--sample", "400"]
        return run_locustfile(folder, "sweep.py", *of, *arguments)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A sweep through the capacity of the engine bound by its batch."""
    asked = ["--steps", "4,16,32", "--step-time", "6", "--max-tokens", str(OUTPUT)]
    return sweep(tmp_path_factory.mktemp("sweep"), "batch-bound", FACTOR, *asked)


def test_a_sweep_finds_the_capacity_within_its_interval(found: Finished) -> None:
    best = found.summary["throughput"]["requests_per_minute"]
    half = 0.0 if best["ci95"] is None else (best["ci95"][1] - best["ci95"][0]) / 2
    assert best["value"] == pytest.approx(CAPACITY, abs=max(half, 0.015 * CAPACITY))
    assert found.summary["throughput"]["at_concurrency"] in {16, 32}


def test_each_step_has_a_window_and_every_request_sent_in_it_has_ended(found: Finished) -> None:
    steps = found.manifest["steps"]
    assert [(s["number"], s["concurrency"]) for s in steps] == [(0, 4), (1, 16), (2, 32)]
    measured = [r for r in found.records if r.phase is Phase.MEASURE]
    for step in steps:
        start, end = step["window_ns"]
        assert step["ended_by"] in {"precision", "step-time"}
        assert step["began_ns"] <= start < end
        sent = [r for r in measured if r.sent_ns is not None and start <= r.sent_ns < end]
        assert len(sent) > 30
        assert {r.step for r in sent} == {step["number"]}
        assert all(r.end_ns is not None for r in sent)
        assert {r.outcome.value for r in sent} == {"ok"}


def test_windows_of_a_sweep_lie_apart_and_in_order(found: Finished) -> None:
    windows = [s["window_ns"] for s in found.manifest["steps"]]
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(windows))


def test_a_sweep_accounts_for_every_request(found: Finished) -> None:
    assert conserved(found)
    requests = found.summary["requests"]
    assert requests["started"] == sum(r.phase is Phase.MEASURE for r in found.records)
    assert (requests["failed"], requests["aborted"], requests["dropped"]) == (0, 0, 0)


def test_all_steps_of_a_sweep_are_in_its_summary_its_report_and_its_pictures(found: Finished) -> None:
    assert [s["concurrency"] for s in found.summary["steps"]] == [4, 16, 32]
    assert all(s["requests_per_minute"]["value"] for s in found.summary["steps"])
    pictures = sorted(path.name for path in found.folder.glob("*.png"))
    assert {"throughput-concurrency.png", "latency-concurrency.png", "time-line.png", "requests.png"} <= set(pictures)
    assert all((found.folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    page = (found.folder / "report.html").read_text()
    assert "<svg" in page or "data:image" in page
    assert not re.search(r"""(?:src|href)=["']https?://""", page)


def test_each_step_is_told_as_it_ends(found: Finished) -> None:
    told = re.findall(r"^step (\d): (\d+) users: ([\d,.]+) requests/min", found.out + found.err, re.MULTILINE)
    assert [(number, users) for number, users, _ in told] == [("1", "4"), ("2", "16"), ("3", "32")]


def test_doubling_ends_two_steps_beyond_the_best(tmp_path: Path) -> None:
    asked = ["--step-time", "5", "--max-tokens", "32"]
    done = sweep(tmp_path, "transformers-4.31.0-llama2-70b", 40, *asked)  # one request at a time
    users = [s["concurrency"] for s in done.summary["steps"]]
    assert users == [1, 2, 4, 8][: len(users)]
    assert len(users) >= 3  # a busy machine may serve the second user better than the first
    assert done.summary["throughput"]["requests_per_minute"]["value"] == pytest.approx(
        60 * 40 * PROFILES["transformers-4.31.0-llama2-70b"].requests_per_second(WORDS, 32), rel=0.03
    )
    assert conserved(done)


MISTAKES: dict[tuple[str, tuple[str, ...]], list[str]] = {
    ("sweep.py", ("--steps", "4,2")): ["--steps '4,2'", "2 comes after 4"],
    ("sweep.py", ("--steps", "0")): ["--steps '0'", "0 users"],
    ("sweep.py", ("--steps", "x")): ["--steps 'x'", "not a whole number"],
    ("sweep.py", ("--slo", "nope=1")): ["--slo", "'nope'", "ttft_ms"],
    ("sweep.py", ("--slo", "ttft_ms=0")): ["--slo", "above 0"],
    ("sweep.py", ("--precision", "0")): ["--precision", "above 0"],
    ("sweep.py", ("--step-time", "0")): ["--step-time", "above 0"],
    ("sweep.py", ("--step-time", "0.5")): ["--step-time", "at least 1 s"],
    ("sweep.py", ("--users", "3")): ["--users", "--steps"],
    ("sweep.py", ("--requests", "5")): ["--requests", "--step-time"],
    ("sweep.py", ("--rate", "5")): ["--rate", "rate.py"],
    ("rate.py", ("--rate", "0")): ["--rate", "above 0"],
    ("rate.py", ()): ["--rate", "needed"],
    ("rate.py", ("--rate", "5", "--users", "3")): ["--users", "--rate"],
    ("rate.py", ("--rate", "5", "--steps", "1,2")): ["--steps", "sweep.py"],
    ("rate.py", ("--rate", "5", "--gap-cv", "2")): ["--gap-cv", "gamma"],
    ("rate.py", ("--rate", "5", "--arrivals", "gamma")): ["--gap-cv", "gamma"],
    ("rate.py", ("--rate", "5", "--arrivals", "uniform")): ["--arrivals", "poisson"],
    ("rate.py", ("--rate", "5", "--max-in-flight", "0")): ["--max-in-flight", "at least 1"],
    ("sweep.py", ("--processes", "2", "--master-bind-port", "7001")): ["--master-bind-port 7001", "--master-port"],
    ("chat.py", ("--rate", "5")): ["--rate", "rate.py"],
    ("chat.py", ("--steps", "1,2")): ["--steps", "sweep.py"],
}
"""What cannot be meant, and words of the message."""


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: " ".join([mistake[0], *mistake[1]]))
def test_what_cannot_be_meant_is_refused_with_the_flags_name(
    tmp_path: Path, mistake: tuple[str, tuple[str, ...]]
) -> None:
    (name, arguments), results = mistake, tmp_path / "results"
    done = run_locustfile(tmp_path, name, *arguments)
    assert done.status == 2, done.err
    (message,) = [line for line in done.err.splitlines() if line.startswith("loadgen: ")]
    for word in MISTAKES[mistake]:
        assert word in message
    assert "Traceback" not in done.err + done.out
    assert not results.exists()

"""Open loops by a real process: the schedule is kept, a stall of the server shows, what is not sent is counted."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, free_port, undisturbed
from running import conserved, run_locustfile, stall

from loadgen.launch.simulated import SimulatedServer, start_simulated
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.workload.arrivals import schedule

ANSWER_MS = 20 + 15 * 2
STALL_S = 2.0
MS = 1_000_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SimulatedServer]:
    started = start_simulated(tmp_path / "truth.jsonl", ttft_ms=20, itl_ms=2)
    yield started
    started.child.stop()


def measured(done: Finished) -> list[RequestRecord]:
    return [r for r in done.records if r.phase is Phase.MEASURE]


def check(done: Finished, name: str) -> dict[str, Any]:
    (found,) = [c for c in done.summary["verdict"]["checks"] if c["name"] == name]
    return dict(found)


def offsets(done: Finished) -> list[int]:
    """When requests were due, from the beginning of the schedule, on the clock of worker 0."""
    epoch = done.manifest["arrivals"]["epoch_ns"]
    clocks = {w["number"]: w["clock_offset_ns"] for w in done.manifest["workers"]}
    return sorted((r.scheduled_ns or 0) + clocks[r.worker] - epoch for r in measured(done))


@pytest.mark.parametrize("processes", [1, 2])
def test_requests_follow_one_schedule_whatever_the_number_of_processes(
    tmp_path: Path, server: SimulatedServer, processes: int
) -> None:
    attempts = count()

    def measure() -> Finished:
        folder = tmp_path / f"attempt-{next(attempts)}"
        folder.mkdir()
        port = str(free_port())
        several = ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]
        asked = ["--rate", "20", "--requests", "60", "--seed", "7", "--max-tokens", "16"]
        done = run_locustfile(folder, "rate.py", "--host", server.host, *asked, *(several if processes > 1 else []))
        assert done.status in {0, 3, 4}, done.err
        assert set(offsets(done)) <= set(islice(schedule("poisson", 20, 1.0, 7), 60))
        assert all(r.sent_ns >= r.scheduled_ns for r in measured(done) if r.sent_ns and r.scheduled_ns)
        assert conserved(done)
        return done

    def check_whole(done: Finished) -> None:
        """A worker that gets no CPU for 3 s is lost, and the run ends early."""
        assert len(measured(done)) == 60
        assert {r.worker for r in measured(done)} == ({0} if processes == 1 else {1, 2})

    undisturbed(measure, check_whole)


@pytest.mark.parametrize(("arrivals", "cv"), [(["constant"], 0.0), (["gamma", "--gap-cv", "2"], 2.0)], ids=str)
def test_other_arrivals_follow_their_schedule_too(
    tmp_path: Path, server: SimulatedServer, arrivals: list[str], cv: float
) -> None:
    asked = ["--rate", "40", "--requests", "60", "--seed", "3", "--max-tokens", "16", "--arrivals", *arrivals]
    done = run_locustfile(tmp_path, "rate.py", "--host", server.host, *asked)
    expected = schedule("gamma" if cv else "constant", 40, cv, 3)
    assert offsets(done) == list(islice(expected, 60))
    assert done.summary["rate"]["cv"] == cv


def held_up(done: Finished) -> int:
    """How many requests took at least twice as long as the server needs."""
    return sum((r.end_ns or 0) - (r.sent_ns or 0) > 2 * ANSWER_MS * MS for r in measured(done))


def test_a_stall_shows_in_the_latency_of_all_who_came_meanwhile(tmp_path: Path, server: SimulatedServer) -> None:
    asked = ["--rate", "50", "--requests", "400", "--seed", "7", "--max-tokens", "16"]
    done = run_locustfile(
        tmp_path, "rate.py", "--host", server.host, *asked, meanwhile=lambda: stall(server, STALL_S, after=120)
    )
    rate = done.summary["rate"]
    assert held_up(done) > 0.8 * 50 * STALL_S
    for kind in ("latency_from_schedule", "latency_from_send"):
        ttft = rate[kind]["ttft_ms"]
        # The first who meets the stall comes a gap after its beginning, on a busy machine later.
        assert 0.75 * STALL_S * 1000 < ttft["max"] < 2 * STALL_S * 1000
        assert ttft["mean"] > 5 * ttft["p50"]
        assert ttft["observed_p99"] > 0.7 * STALL_S * 1000
        assert "p99" in ttft["not_resolvable"] or ttft["p99"] > 1000
    assert done.summary["latency"]["ttft_ms"]["p99"] > 0.7 * STALL_S * 1000
    assert rate["dropped"] == 0
    assert check(done, "load model")["value"].startswith("open loop")
    assert conserved(done)


def test_a_closed_loop_shows_a_stall_once_for_each_user_and_says_so(tmp_path: Path, server: SimulatedServer) -> None:
    asked = ["--users", "2", "--requests", "240", "--max-tokens", "16"]
    done = run_locustfile(
        tmp_path, "chat.py", "--host", server.host, *asked, meanwhile=lambda: stall(server, STALL_S, after=100)
    )
    longest = sorted(((r.end_ns or 0) - (r.sent_ns or 0)) / MS for r in measured(done))
    assert sum(took > 0.5 * STALL_S * 1000 for took in longest) <= 2
    assert longest[-1] > 0.9 * STALL_S * 1000
    assert check(done, "load model")["value"].startswith("closed loop")


def test_requests_beyond_the_cap_are_dropped_and_counted(tmp_path: Path) -> None:
    slow = start_simulated(tmp_path / "slow.jsonl", ttft_ms=400, itl_ms=1)
    try:
        asked = ["--rate", "20", "--requests", "60", "--max-tokens", "4", "--max-in-flight", "4"]
        done = run_locustfile(tmp_path, "rate.py", "--host", slow.host, *asked)
    finally:
        slow.child.stop()
    dropped = [r for r in measured(done) if r.outcome is Outcome.DROPPED]
    requests = done.summary["requests"]
    assert len(dropped) > 10
    assert requests["dropped"] == done.summary["rate"]["dropped"] == len(dropped)
    assert all(r.sent_ns is None and r.scheduled_ns is not None for r in dropped)
    assert all("--max-in-flight" in (r.error or "") for r in dropped)
    assert requests["started"] == len(measured(done)) == 60
    assert conserved(done)
    found = check(done, "arrivals as asked")
    assert found["status"] == "invalid"
    assert f"{len(dropped)} of 60 dropped" in found["value"]
    assert done.status == 3

"""The truth server: it does what its script says, and its log is what was sent."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from asking import question
from conftest import Locust, undisturbed

from loadgen import metrics
from loadgen.engines.catalogue import ENGINES
from loadgen.engines.simulated.batching import MS
from loadgen.engines.simulated.script import Script, timeline
from loadgen.launch.simulated import SimulatedServer, Truth, start_simulated
from loadgen.measure.truth import errors
from loadgen.protocol.client import Client, Settings
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord
from loadgen.wire.connection import new_socket
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter


@contextmanager
def simulated(tmp_path: Path, **options: Any) -> Iterator[SimulatedServer]:
    stamping = new_socket()
    server = start_simulated(tmp_path / "truth.jsonl", **options)
    try:
        yield server
    finally:
        server.child.stop()
        stamping.close()


def ask(
    server: SimulatedServer, tokens: int = 8, *, stream: bool = True, is_logged: bool = True, **changes: Any
) -> tuple[RequestRecord, Truth]:
    settings = Settings(parse_target(server.host), ENGINES["simulated"].api, Timeouts(30, 30, 30, 60))
    records: list[RequestRecord] = []
    client = Client(replace(settings, **changes), PollWaiter(), records.append)
    client.send(question("a b c", max_tokens=tokens, stream=stream))
    client.close()
    deadline = time.monotonic() + 60
    while (
        is_logged and records[0].outcome is Outcome.OK and "r1" not in server.truths() and time.monotonic() < deadline
    ):
        time.sleep(0.01)  # the log is written behind the last send
    return records[0], server.truths().get("r1", Truth("r1", 0, [0], [""], 0))


def logged(server: SimulatedServer, count: int) -> dict[str, Truth]:
    """What is in the log as soon as so many are."""
    deadline = time.monotonic() + 60
    while len(server.truths()) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return server.truths()


def assert_same_times(record: RequestRecord, truth: Truth) -> None:
    """Each chunk arrived after it was sent and before the next was, but for those that were read together.

    However slow the machine is: the server notes the time before each send.
    """
    observed = [*(record.chunk_ns or []), record.end_ns]
    sent = [*truth.chunk_ns, truth.end_ns]
    late = 0
    for number, (at, since) in enumerate(zip(observed, sent, strict=True)):
        assert at is not None
        assert since is not None
        assert at - since > -MS // 10
        following = [time for time in truth.chunk_ns[number:] if time > since]
        late += bool(following) and at > following[0]
    assert late <= (record.coalesced_chunks or 0)


def test_the_records_times_are_those_of_the_log(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=20, itl_ms=3) as server:
        record, truth = ask(server, 16)
    assert (record.outcome, record.output_tokens, record.input_tokens) == (Outcome.OK, 16, 3)
    assert_same_times(record, truth)
    assert len(truth.chunk_ns) == 16


@pytest.mark.parametrize(
    "script",
    [
        {"jitter": 0.5},
        {"burst": 4},
        {"tokens_per_chunk": 3},
        {"tokens_per_chunk": 1, "tokens_per_chunk_max": 8},
        {"ttft_ms": 150},
        {"stall_at": 7, "stall_ms": 60},
        {"role": "early"},
        {"role": "none"},
        {"buffer_bytes": 1500},
        {"done_ms": 30, "close_ms": 50},
    ],
    ids=str,
)
def test_each_script_is_read_as_it_was_sent(tmp_path: Path, script: dict[str, Any]) -> None:
    with simulated(tmp_path, **{"ttft_ms": 20, "itl_ms": 2, **script}) as server:
        record, truth = ask(server, 16)
    assert (record.outcome, record.output_tokens) == (Outcome.OK, 16)
    assert record.chunks == len(truth.chunk_ns)
    assert record.first_token_ns == (record.chunk_ns or [0])[0]
    assert_same_times(record, truth)


def test_a_stream_that_never_closes_is_complete_with_its_end_mark(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=1, never_close=True) as server:
        record, _ = ask(server, is_logged=False, timeouts=Timeouts(60, 60, 4, 120))
    assert record.outcome is Outcome.OK
    assert (metrics.e2e_ms(record) or 0) < 4_000  # nothing of the idle timeout is in it


def test_scripted_failures_become_outcomes(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=1, fail_at=3) as server:
        assert ask(server)[0].outcome is Outcome.BROKEN_STREAM
    for status, outcome in ((429, Outcome.RATE_LIMITED), (500, Outcome.HTTP_5XX)):
        with simulated(tmp_path, status=status) as server:
            assert ask(server)[0].outcome is outcome


def test_a_reset_in_mid_stream_is_one_and_the_log_has_what_was_sent_before(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=5, reset_at=3) as server:
        record, _ = ask(server)
        truth = logged(server, 1)["r1"]
    assert record.outcome is Outcome.BROKEN_STREAM
    assert (len(truth.chunk_ns), truth.output_tokens, truth.kinds[-1], truth.end_ns) == (3, 3, "x", None)
    assert record.chunks == 3


def test_it_answers_without_a_stream_and_on_a_kept_connection(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=10, itl_ms=2) as server:
        record, _ = ask(server, 6, stream=False, keep_alive=True)
    assert (record.outcome, record.output_tokens) == (Outcome.OK, 6)
    assert (metrics.e2e_ms(record) or 0) >= 20


def test_it_has_vllms_routes(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=1, itl_ms=1) as server:
        ask(server, 8)
        for path, words in (("/health", b""), ("/v1/models", b'"simulated"'), ("/metrics", b"generation_tokens_total")):
            with urllib.request.urlopen(server.host + path, timeout=5) as reply:
                assert words in reply.read()


def test_it_serves_under_the_name_that_it_is_given(tmp_path: Path) -> None:
    name = 'llama2-70b-chat "ä"'
    for options in ({"ttft_ms": 1, "itl_ms": 1}, {"profile": "batch-bound", "time_factor": 10}):
        with simulated(tmp_path, model=name, **options) as server:
            with urllib.request.urlopen(server.host + "/v1/models", timeout=5) as reply:
                assert [model["id"] for model in json.load(reply)["data"]] == [name]
            for stream in (True, False):
                chat = {
                    "model": "any",
                    "messages": [{"role": "user", "content": "a"}],
                    "max_tokens": 2,
                    "stream": stream,
                }
                asked = urllib.request.Request(server.host + "/v1/chat/completions", json.dumps(chat).encode())
                with urllib.request.urlopen(asked, timeout=5) as reply:
                    events = [line.removeprefix(b"data: ") for line in reply if line.strip()]
                names = [json.loads(event)["model"] for event in events if event.strip() != b"[DONE]"]
                assert set(names) == {name}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_killed_if_told_to_and_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "truth.jsonl"
    command = [sys.executable, "-m", "loadgen.engines.simulated", "--until-killed", "--log", str(log), "--ttft-ms", "1"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            host = process.stdout.readline().strip()
            with urllib.request.urlopen(host + "/health", timeout=5) as reply:
                assert reply.status == 200
            chat = json.dumps({"messages": [{"content": "a"}], "max_tokens": 2}).encode()
            with urllib.request.urlopen(host + "/v1/chat/completions", chat, timeout=5) as reply:
                assert reply.status == 200
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(timeout=5) == 0
        finally:
            process.kill()
    assert len(log.read_text().splitlines()) == 1


def test_every_result_against_it_says_simulated(tmp_path: Path, locust: Locust) -> None:
    with simulated(tmp_path, ttft_ms=5, itl_ms=1) as server:
        done = locust("--host", server.host, "--sample", "30", "--max-tokens", "8")
    done.assert_ended_well()
    assert done.summary["simulated"] is True
    assert done.manifest["simulated"] is True
    assert "SIMULATED" in (done.folder / "report.md").read_text().splitlines()[0]
    assert "SIMULATED" in done.out.splitlines()[0]
    assert "SIMULATED" in (done.folder / "report.html").read_text()


def test_jitter_is_seeded_and_stays_in_its_bounds() -> None:
    script = Script(ttft_ms=10, itl_ms=5, jitter=0.2)
    first, again, other = (timeline(script, 200, 3, seed) for seed in ("a", "a", "b"))
    assert first == again != other
    times = [send.at for send in first if "t" in send.kinds]
    assert all(4.0 <= (b - a) / MS <= 6.0 for a, b in pairwise(times))


def test_a_modelled_engine_streams_too(tmp_path: Path) -> None:
    attempts = count()

    def measure() -> RequestRecord:
        (folder := tmp_path / f"{next(attempts)}").mkdir()
        with simulated(folder, profile="batch-bound", time_factor=10) as server:
            record, truth = ask(server, 10)
        assert (record.outcome, record.output_tokens) == (Outcome.OK, 10)
        assert_same_times(record, truth)
        return record

    def check(record: RequestRecord) -> None:
        assert metrics.tpot_ms(record) == pytest.approx(1.01, rel=0.5)

    undisturbed(measure, check)


def ask_lazily(server: SimulatedServer, tokens: int, **changes: Any) -> tuple[RequestRecord, Truth]:
    settings = Settings(parse_target(server.host), ENGINES["simulated"].api, Timeouts(30, 30, 30, 60))
    records: list[RequestRecord] = []
    client = Client(replace(settings, **changes), PollWaiter(), records.append)
    for number in range(2):  # the second one on a kept connection, where there is one
        client.send(question("a b c", id=f"r{number}", max_tokens=tokens, lazy=True))
    client.close()
    deadline = time.monotonic() + 60
    while "r1" not in server.truths() and time.monotonic() < deadline:
        time.sleep(0.01)
    return records[1], server.truths()["r1"]


@pytest.mark.parametrize("keep_alive", [False, True])
def test_a_lazily_drained_stream_has_its_last_token_and_end_within_their_intervals(
    tmp_path: Path, *, keep_alive: bool
) -> None:
    def answered() -> tuple[RequestRecord, Truth]:
        with simulated(tmp_path, ttft_ms=20, itl_ms=5, done_ms=30, close_ms=50) as server:
            record, truth = ask_lazily(server, 40, keep_alive=keep_alive)
        assert (record.outcome, record.lazy, record.chunk_ns) == (Outcome.OK, True, None)
        assert (record.output_tokens, record.output_characters) == (40, None)
        assert record.connection == ("reused" if keep_alive else "new")
        return record, truth

    undisturbed(answered, assert_within_intervals)


def assert_within_intervals(found: tuple[RequestRecord, Truth]) -> None:
    record, truth = found
    assert record.first_token_interval_ns == 0
    assert record.first_token_ns == pytest.approx(truth.chunk_ns[0], abs=20 * MS)
    for at, width, true in (
        (record.last_token_ns, record.last_token_interval_ns, truth.chunk_ns[-1]),
        (record.end_ns, record.end_interval_ns, truth.end_ns),
    ):
        assert at is not None
        assert width is not None
        assert true is not None
        # The server notes the time and then sends: it may be stopped in between, so only that side has slack.
        assert at - width - 20 * MS <= true <= at
        assert width < 100 * MS


def test_lazy_streams_that_end_before_they_were_looked_at_claim_no_more_than_is_known(
    tmp_path: Path, locust: Locust
) -> None:
    with simulated(tmp_path, ttft_ms=5, itl_ms=6, done_ms=6) as server:
        arguments = ("--host", server.host, "--sample", "50", "--max-tokens", "2", "--itl-sample", "0")
        done = locust(*arguments, users=2)
        truths = server.truths()
    # Where this machine stood still, all of an answer was in the read of its first token: nothing is left to drain.
    assert all(r.lazy or r.coalesced_chunks for r in done.records if r.phase is Phase.MEASURE)
    found = errors(done.records, truths)
    assert len(found.e2e) == 50
    assert found.outside <= 5  # a busy machine may stop the server between its note of the time and its send


def test_a_lazy_stream_of_a_server_without_usage_has_its_events_counted(tmp_path: Path) -> None:
    with simulated(tmp_path, ttft_ms=5, itl_ms=2, tokens_per_chunk=2, no_usage=True) as server:
        eager, _ = ask(server, 31)
        lazy, _ = ask_lazily(server, 31)
    assert lazy.chunks == eager.chunks == 16
    assert lazy.output_tokens == eager.output_tokens == 16  # a lower bound, marked as such
    assert lazy.counted_by is eager.counted_by is CountedBy.CHUNKS


def test_a_share_of_the_streams_of_a_run_is_read_token_by_token(tmp_path: Path, locust: Locust) -> None:
    with simulated(tmp_path, ttft_ms=20, itl_ms=5) as server:
        arguments = ("--host", server.host, "--sample", "40", "--max-tokens", "40", "--itl-sample", "0.25")
        done = locust(*arguments, users=4)
    done.assert_ended_well()
    measured = [r for r in done.records if r.phase is Phase.MEASURE]
    assert sum(not r.lazy for r in measured) in {10, 11}
    assert done.summary["instrument"]["streams_read_token_by_token"] in {10, 11}
    gaps = sum(len(r.chunk_ns) - 1 for r in measured if r.chunk_ns is not None)
    assert gaps in {10 * 39, 11 * 39}
    # A busy machine reads too many chunks together: then their gaps are not told.
    assert done.summary["latency"].get("itl_ms", {"n": gaps})["n"] == gaps
    assert done.summary["latency"]["tpot_ms"]["n"] == 40

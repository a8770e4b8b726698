"""The real engine that starts by itself: llama.cpp on a model of random weights."""

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from asking import question
from conftest import FIGURE, Finished, Locust, records_of
from running import run_locustfile

from loadgen import metrics
from loadgen.engines.catalogue import ENGINES
from loadgen.errors import EngineError
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import start_embedded
from loadgen.protocol.client import Client, Settings
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.run.share import Sender
from loadgen.wire.connection import new_socket
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter
from loadgen.workload import datasets


@pytest.fixture(scope="module")
def engine() -> Iterator[ChildServer]:
    stamping = new_socket()
    started = start_embedded()
    yield started
    started.stop()
    stamping.close()


@pytest.fixture
def settings(engine: ChildServer) -> Settings:
    return Settings(parse_target(engine.host), ENGINES["llamacpp"].api, Timeouts(5, 60, 60, 120))


def ask_all(client: Sender, count: int, max_tokens: int) -> list[RequestRecord]:
    prompts = [p for p in datasets.load("samples").single_turn if len(p.text) < 400][:count]
    return [
        client.send(question(p.text, id=f"r{i}", model="random-llama", max_tokens=max_tokens)).record
        for i, p in enumerate(prompts)
    ]


def test_the_engines_own_clock_agrees(settings: Settings, record_property: Callable[[str, str], None]) -> None:
    """A role chunk taken for the first token would come at about 0 ms, before the prefill is over.

    A usage chunk taken for the last token, or a token counted too many or too few, shifts TPOT by 1/31: the engine
    divides by n, we by n - 1 gaps between n tokens. Other work on the machine scatters the figures over some
    10 %; hardly one in ten comes so close by chance. They are looked at while a third does, which may take some tries.
    """
    for _ in range(20):
        records = ask_all(Client(settings, PollWaiter()), 20, 32)
        assert {r.outcome for r in records} == {Outcome.OK}
        assert all(r.output_tokens == r.chunks == 32 for r in records)
        assert all(r.counted_by is CountedBy.USAGE for r in records)
        # What the engine does not count in prompt_ms: taking the request, tokenizing, and the first token's way out.
        ttft_over = [(metrics.ttft_ms(r) or 0) - (r.server_prefill_ms or 0) for r in records]
        tpot_ratio = [(metrics.tpot_ms(r) or 0) / (r.server_tpot_ms or 1) for r in records]
        assert min(ttft_over) > -0.5
        if min(ttft_over) < 5 and sum(abs(ratio - 1) < 1 / 31 / 3 for ratio in tpot_ratio) >= len(tpot_ratio) / 3:
            break
    else:
        pytest.fail(f"no third of the answers agrees: {tpot_ratio}, {ttft_over}")
    differences = {
        "TTFT - prompt_ms, ms: median, min, max": (statistics.median(ttft_over), min(ttft_over), max(ttft_over)),
        "TPOT / predicted_per_token_ms": (statistics.median(tpot_ratio), min(tpot_ratio), max(tpot_ratio)),
    }
    for name, (median, low, high) in differences.items():
        record_property(FIGURE, f"{name}: {median:.3f} {low:.3f} {high:.3f}")


def test_the_sdk_and_the_own_client_agree_on_tokens(settings: Settings) -> None:
    own = ask_all(Client(settings, PollWaiter()), 10, 16)
    from loadgen.protocol.openai_sdk import OpenAIClient, open_sdk  # takes a second to import

    sdk = ask_all(OpenAIClient(open_sdk(settings), settings, PollWaiter(), lambda _record: None), 10, 16)
    assert [r.output_tokens for r in own] == [r.output_tokens for r in sdk] == [16] * 10
    assert [r.input_tokens for r in own] == [r.input_tokens for r in sdk]
    assert [r.output_characters for r in own] == [r.output_characters for r in sdk]
    assert {(r.client, r.stamp) for r in sdk} == {("openai", "user")}
    assert {r.client for r in own} == {"own"}
    assert all(r.first_token_interval_ns is None for r in sdk)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run by the own client, on an engine that it starts itself."""
    arguments = ("--users", "1", "--sample", "40", "--max-tokens", "8")
    return run_locustfile(tmp_path_factory.mktemp("own"), "chat.py", *arguments)


def test_a_run_on_it_says_so_everywhere(own: Finished) -> None:
    done = own
    done.assert_ended_well()
    label = "embedded engine, random weights"
    assert done.summary["embedded"] == label
    assert label in done.out.replace("\n", " ")
    assert label in (done.folder / "report.md").read_text().splitlines()[0]
    assert label in (done.folder / "report.html").read_text()
    assert done.summary["tokens"]["output"] == 40 * 8
    assert done.summary["instrument"]["timestamp_source"] == "kernel"


def test_a_run_through_the_sdk_shows_its_ttft_beside_the_own_clients(own: Finished, locust: Locust) -> None:
    sdk = locust("--sample", "40", "--max-tokens", "8", "--client", "openai")
    sdk.assert_ended_well()
    assert "through the openai SDK" in (sdk.folder / "report.md").read_text().splitlines()[0]
    assert sdk.summary["tokens"]["output"] == own.summary["tokens"]["output"] == 320
    assert sdk.summary["client"] == "openai"
    command = [sys.executable, "-m", "loadgen.cli", "report", str(own.folder), "--beside", str(sdk.folder)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "Means over 40 prompts that both runs have answered" in shown
    number = r"-?\d+\.\d+"
    assert re.search(r"output tokens +8\.00 +8\.00 +0\.00 \[0\.00, 0\.00\]", shown), shown
    # How large it is depends on the machine's other work between the two runs: it is shown, not asserted.
    assert re.search(rf"TTFT, ms +{number} +{number} +{number} \[{number}, {number}\]", shown), shown
    assert "through the openai SDK" in shown
    assert "They differ in client" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_is_gone_however_the_run_ends(
    start_locust: Callable[[Sequence[str]], "subprocess.Popen[str]"], tmp_path: Path, number: signal.Signals
) -> None:
    results = tmp_path / "results"
    process = start_locust(["--headless", "--users", "1", "--max-tokens", "16", "--results", str(results)])
    while not (found := list(results.glob("*/records.jsonl"))) or len(records_of(found[0].parent)) < 3:
        time.sleep(0.02)
        assert process.poll() is None
    servers = children_of(process.pid)
    assert len(servers) == 1
    process.send_signal(number)
    process.wait(timeout=300)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and any(runs(pid) for pid in servers):
        time.sleep(0.05)
    assert not any(runs(pid) for pid in servers)


def children_of(parent: int) -> list[int]:
    """Processes whose parent it is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie that nobody has collected."""
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_platform_without_it_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EngineError, match=r"xllamacpp, which has no wheel .* --host"):
        start_embedded()

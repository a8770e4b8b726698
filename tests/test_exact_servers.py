"""Engines that need a GPU or a container, by servers of their exact protocols; test_exact_matrix.py has the matrix."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from asking import question
from conftest import ROOT, free_port
from launching import wait_for

from loadgen.clock import now
from loadgen.engines.catalogue import ENGINES
from loadgen.engines.engine import ignore_eos
from loadgen.measure.counters import parse
from loadgen.protocol.client import Client, Settings
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.wire.fault import WireError
from loadgen.wire.get import Reply, get
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter

SERVER = ROOT / "tests" / "exact_server.py"
Noted = Mapping[str, Any]
"""What a server has noted of one request."""

STARTED: Mapping[str, Sequence[str]] = {
    "vllm-0.1.3": ("--model", "falcon-7b-instruct"),
    "tgi-1.0.1": ("--model-id", "falcon-7b-instruct"),
    "tgi": ("--model-id", "falcon-7b-instruct", "--max-total-tokens", "2048"),
    "sglang": ("--model-path", "falcon-7b-instruct", "--context-length", "2048", "--enable-metrics"),
    "tensorrt-llm": ("falcon-7b-instruct", "--max_seq_len", "2048"),
    "lmdeploy": ("serve", "api_server", "falcon-7b-instruct", "--backend", "turbomind"),
    "ollama": ("serve",),
}
"""The words that start each, for a model that has no folder: its name is what all know of it."""

NAMES = tuple(STARTED)


def lines(path: Path) -> list[Noted]:
    """What servers have noted so far."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class Running:
    """A server, and our client for it."""

    name: str
    url: str
    record: Path
    sent: int = 0

    @property
    def model(self) -> str:
        """What it has to be asked for."""
        return "tgi" if self.name == "tgi" else "falcon-7b-instruct"

    def send(self, prompt: str, max_tokens: int, **more: Any) -> tuple[RequestRecord, Noted]:
        """Ask, by the engine's own API; return what the client and what the server saw."""
        asked: dict[str, Any] = {"model": self.model, "temperature": 0.0, "stream": True} | more
        api = ENGINES[self.name].api
        settings = Settings(parse_target(self.url), api, Timeouts(5, 5, 5, 5))
        self.sent += 1
        request = question(prompt, id=f"{self.name}-{self.sent}", max_tokens=max_tokens, **asked)
        record = Client(settings, PollWaiter()).send(request).record
        (noted,) = [n for n in lines(self.record) if n["request_id"] == request.id]
        return record, noted

    def get(self, path: str) -> Reply:
        return get(parse_target(self.url), path, PollWaiter(), timeout=5)


def command(name: str, *words: str) -> list[str]:
    return [sys.executable, str(SERVER), "--engine", name, *words]


def answers(url: str) -> bool:
    try:
        return get(parse_target(url), "/", PollWaiter(), timeout=1).status > 0
    except WireError:
        return False


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Running]]:
    """All of them, each on a port of its own."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "Modelfile").write_text(f"FROM {folder / 'Modelfile'}\n")
    found, processes = {}, []
    for name, words in STARTED.items():
        port = free_port()
        own = {"EXACT_SERVER_PORT": str(port), "EXACT_SERVER_RECORD": str(folder / f"{name}.jsonl")}
        processes.append(
            subprocess.Popen(command(name, *words), cwd=folder, env=os.environ | own, stdout=subprocess.DEVNULL)
        )
        found[name] = Running(name, f"http://127.0.0.1:{port}", folder / f"{name}.jsonl")
    try:
        for running in found.values():
            wait_for(lambda url=running.url: answers(url))
        create = command("ollama", "create", "falcon-7b-instruct", "-f", "Modelfile")
        own = {"EXACT_SERVER_PORT": found["ollama"].url.rpartition(":")[2]}
        subprocess.run(create, cwd=folder, env=os.environ | own, check=True, stdout=subprocess.DEVNULL)
        yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()


COUNTED: Mapping[tuple[str, bool], CountedBy] = {("vllm-0.1.3", True): CountedBy.CHUNKS}
"""By engine and whether it streams; all others tell their usage."""

PROMPTS = tuple(f"Question {number}: why is the sky blue?" for number in range(4))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_read_as_the_engine_generated_it(
    servers: Mapping[str, Running], name: str, *, stream: bool
) -> None:
    ends = set()
    for prompt in PROMPTS:
        for max_tokens in (1, 9, 100):  # no answer that is not cut has so many
            record, noted = servers[name].send(prompt, max_tokens, stream=stream)
            by = COUNTED.get((name, stream), CountedBy.USAGE)
            tokens = noted["output_tokens"] if by is CountedBy.USAGE else noted["words"]
            assert (record.outcome, record.output_tokens, record.counted_by) == (Outcome.OK, tokens, by)
            assert record.finish_reason == noted["finish"]
            told = not (name == "tgi-1.0.1" or by is CountedBy.CHUNKS)
            assert record.input_tokens == (noted["prompt_tokens"] if told else None)
            special = name == "tgi-1.0.1" and noted["finish"] == "eos_token"
            assert record.chunks == (noted["words"] + special if stream else 0)
            ends.add(noted["finish"])
    assert ends == {"length", "eos_token" if name == "tgi-1.0.1" else "stop"}


SENT = """
import json, sys
from loadgen.engines.catalogue import ENGINES
from loadgen.launch.chat import chat_for
from loadgen.scenario import Scenario
print(json.dumps({name: chat_for(ENGINES[name], None, "falcon-7b-instruct", Scenario()).stop for name in sys.argv[1:]}))
"""
"""In a process of its own, as gevent patches whoever imports it."""


@pytest.fixture(scope="module")
def stop() -> Mapping[str, Sequence[str]]:
    """The stop strings that a run sends to each, of a model for which some are known."""
    done = subprocess.run([sys.executable, "-c", SENT, *NAMES], stdout=subprocess.PIPE, check=True)
    found: Mapping[str, Sequence[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_gets_the_stop_strings_of_the_model(
    servers: Mapping[str, Running], stop: Mapping[str, Sequence[str]], name: str
) -> None:
    for stream in (True, False):
        record, noted = servers[name].send("A question?", 8, stream=stream, stop=tuple(stop[name]))
        assert record.outcome is Outcome.OK
        assert noted["body"].get("parameters", noted["body"])["stop"] == ["\nUser"]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_that_ends_at_a_stop_string_is_told_as_such(
    servers: Mapping[str, Running], name: str, *, stream: bool
) -> None:
    record, noted = servers[name].send("A question?", 60, stream=stream, stop=("\nUser", " that"))
    assert record.finish_reason == noted["finish"] == ("stop_sequence" if name.startswith("tgi") else "stop")
    assert record.output_tokens == noted["words" if (name, stream) in COUNTED else "output_tokens"]
    assert 0 < (record.output_tokens or 0) <= 14  # it says each of its words in as many


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_as_long_as_asked_where_the_engine_can_be_asked(servers: Mapping[str, Running], name: str) -> None:
    fixed_length_fields = ENGINES[name].fixed_length_fields
    assert (fixed_length_fields is ignore_eos) == (name not in {"tgi-1.0.1", "tgi", "ollama"})
    record, noted = servers[name].send(
        "Hello.", 90, body=fixed_length_fields(90) if fixed_length_fields else {}, stream=False
    )
    assert (record.output_tokens == 90) == (fixed_length_fields is not None)
    assert (noted["finish"] == "length") == (fixed_length_fields is not None)


FIVE = ("a", "b", "c", "d", "e")
REFUSED: Sequence[tuple[str, dict[str, Any], int, str]] = [
    ("vllm-0.1.3", {"model": "other"}, 404, "The model `other` does not exist."),
    ("vllm-0.1.3", {"max_tokens": 2048}, 400, "maximum context length is 2048 tokens"),
    ("tgi-1.0.1", {"stop": FIVE}, 422, "`stop` supports up to 4 stop sequences. Given: 5"),
    ("tgi-1.0.1", {"max_tokens": 2048}, 422, "`inputs` tokens + `max_new_tokens` must be <= 2048."),
    ("tgi", {"stop": FIVE}, 422, "`stop` supports up to 4 stop sequences. Given: 5"),
    ("sglang", {"max_tokens": 2048}, 400, "maximum context length of 2048 tokens"),
    ("tensorrt-llm", {"body": {"prompt": ""}}, 400, "Extra inputs are not permitted"),
    ("lmdeploy", {"model": "other"}, 404, "The model 'other' does not exist."),
    ("ollama", {"model": "other"}, 404, "model 'other' not found"),
]


@pytest.mark.parametrize(("name", "asked", "status", "message"), REFUSED)
def test_what_an_engine_refuses_is_told_in_its_own_words(
    servers: Mapping[str, Running], name: str, asked: dict[str, Any], status: int, message: str
) -> None:
    of = {"max_tokens": 8, "stream": False} | asked
    record, noted = servers[name].send("Hello there.", **of)
    assert (record.outcome, record.http_status, noted["status"]) == (Outcome.HTTP_4XX, status, status)
    assert message in (record.error or "")


@pytest.mark.parametrize("name", ["tgi-1.0.1", "tgi"])
def test_a_refusal_inside_a_stream_is_no_answer(servers: Mapping[str, Running], name: str) -> None:
    record, _ = servers[name].send("Hello there.", 8, stop=FIVE)
    assert (record.outcome, record.http_status) == (Outcome.BROKEN_STREAM, 200)
    assert "`stop` supports up to 4 stop sequences. Given: 5" in (record.error or "")


def test_tgi_1_0_1_is_not_sent_the_temperature_0_that_it_refuses(servers: Mapping[str, Running]) -> None:
    _, noted = servers["tgi-1.0.1"].send("Hello.", 8)
    assert "temperature" not in noted["body"]["parameters"]
    _, noted = servers["tgi-1.0.1"].send("Hello.", 8, temperature=0.5)
    assert noted["body"]["parameters"]["temperature"] == 0.5


@pytest.mark.parametrize("name", NAMES)
def test_health_version_and_counters_are_where_the_engine_has_them(servers: Mapping[str, Running], name: str) -> None:
    engine, running = ENGINES[name], servers[name]
    assert running.get("/no/such/route").status == 404
    for route in (engine.health, *engine.info_routes):
        assert route is None or running.get(route).status == 200
    if name in {"vllm-0.1.3", "ollama", "tensorrt-llm"}:  # which has them only if its file of options says so
        assert running.get("/metrics" if engine.metrics is None else engine.metrics.path).status == 404
        return
    assert engine.metrics is not None
    before = parse(running.get(engine.metrics.path).body.decode(), now(), engine.metrics.counters)
    noted = [running.send(prompt, 7)[1] for prompt in PROMPTS]
    after = parse(running.get(engine.metrics.path).body.decode(), now(), engine.metrics.counters)
    assert before is not None
    assert after is not None
    for ours, theirs in (("prompt_tokens", "prompt_tokens"), ("output_tokens", "output_tokens")):
        assert getattr(after, ours) - getattr(before, ours) == sum(n[theirs] for n in noted)
    assert (after.requests or 0) - (before.requests or 0) == len(noted)
    assert (after.running, after.waiting) == (0, 0)


def test_sglang_counts_how_often_its_health_is_polled(servers: Mapping[str, Running]) -> None:
    polled = [json.loads(servers["sglang"].get("/server_info").body)["health_polls"]]
    servers["sglang"].get("/health")
    polled.append(json.loads(servers["sglang"].get("/server_info").body)["health_polls"])
    assert polled == [0, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_word_that_an_engine_does_not_know_ends_it(name: str) -> None:
    done = subprocess.run(command(name, *STARTED[name], "--no-such-flag"), capture_output=True, text=True, check=False)
    said = {
        "tgi-1.0.1": "error: unexpected argument '--no-such-flag' found",
        "tgi": "error: unexpected argument '--no-such-flag' found",
        "tensorrt-llm": "Error: No such option: --no-such-flag",
        "ollama": "Error: unknown command",
    }
    assert done.returncode == (1 if name == "ollama" else 2)
    assert said.get(name, "error: unrecognized arguments: --no-such-flag") in done.stderr

"""Engines that need a GPU or a container, by servers of their exact protocols: alone, and through the whole matrix."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, free_port
from launching import Home, wait_for
from nvml import a100, fake_nvml

from engines.catalogue import ENGINES
from engines.engine import Container, Environment, ignore_eos
from loadgen.clock import now
from loadgen.launch import environments
from loadgen.matrix.cell import Cell
from loadgen.matrix.gather import results
from loadgen.matrix.matrix import Matrix, reopen
from loadgen.measure.counters import parse
from loadgen.models.template import render, template_text
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord
from loadgen.results import store
from loadgen.wire.client import Client, Settings
from loadgen.wire.connection import WireError
from loadgen.wire.dialect import Ask
from loadgen.wire.get import Reply, get
from loadgen.wire.job import Job
from loadgen.wire.reception import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter
from loadgen.workload.datasets import load

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
        """Ask, by the engine's own dialect; return what the client and what the server saw."""
        asked: dict[str, Any] = {"model": self.model, "temperature": 0.0, "stream": True} | more
        dialect = ENGINES[self.name].dialect
        settings = Settings(parse_target(self.url), dialect, Timeouts(5, 5, 5, 5))
        records: list[RequestRecord] = []
        self.sent += 1
        job = Job(f"{self.name}-{self.sent}", Ask(prompt, max_tokens=max_tokens, **asked), Phase.MEASURE, 0)
        Client(settings, PollWaiter()).send(job, records.append)
        (record,) = records
        (noted,) = [n for n in lines(self.record) if n["request_id"] == job.request_id]
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
from engines.catalogue import ENGINES
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
    whole_length = ENGINES[name].whole_length
    assert (whole_length is ignore_eos) == (name not in {"tgi-1.0.1", "tgi", "ollama"})
    record, noted = servers[name].send("Hello.", 90, fields=whole_length(90) if whole_length else {}, stream=False)
    assert (record.output_tokens == 90) == (whole_length is not None)
    assert (noted["finish"] == "length") == (whole_length is not None)


FIVE = ("a", "b", "c", "d", "e")
REFUSED: Sequence[tuple[str, dict[str, Any], int, str]] = [
    ("vllm-0.1.3", {"model": "other"}, 404, "The model `other` does not exist."),
    ("vllm-0.1.3", {"max_tokens": 2048}, 400, "maximum context length is 2048 tokens"),
    ("tgi-1.0.1", {"stop": FIVE}, 422, "`stop` supports up to 4 stop sequences. Given: 5"),
    ("tgi-1.0.1", {"max_tokens": 2048}, 422, "`inputs` tokens + `max_new_tokens` must be <= 2048."),
    ("tgi", {"stop": FIVE}, 422, "`stop` supports up to 4 stop sequences. Given: 5"),
    ("sglang", {"max_tokens": 2048}, 400, "maximum context length of 2048 tokens"),
    ("tensorrt-llm", {"fields": {"prompt": ""}}, 400, "Extra inputs are not permitted"),
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
    for route in (engine.health, *engine.tells):
        assert route is None or running.get(route).status == 200
    if name in {"vllm-0.1.3", "ollama", "tensorrt-llm"}:  # which has them only if its file of options says so
        assert running.get("/metrics" if engine.metrics is None else engine.metrics.path).status == 404
        return
    assert engine.metrics is not None
    before = parse(running.get(engine.metrics.path).body.decode(), now(), engine.metrics.names)
    noted = [running.send(prompt, 7)[1] for prompt in PROMPTS]
    after = parse(running.get(engine.metrics.path).body.decode(), now(), engine.metrics.names)
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


MODEL = "tiny-vicuna"
"""FastChat, in vLLM 0.1.3, finds the template by the name."""
TOKENS = 8
MATRIX = f"""\
engines = {json.dumps(NAMES)}
models = ["{MODEL}"]
dataset = "samples"
sample = 30
max_tokens = {TOKENS}
warmup = 2
weights = "random"

[throughput]
steps = "2"
step_time = 1

[model.{MODEL}]
dtype = "float16"
template = "vicuna_v1.1"
shape = {{ layers = 2, hidden = 64, heads = 2, kv_heads = 2, feed_forward = 128, vocabulary = 512, context = 2048 }}
"""

DOCKER = """\
#!{python}
import json, os, pathlib, signal, subprocess, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
images = {images}
with (here / "record").open("a") as file: file.write(json.dumps(words) + "\\n")
if words[:2] == ["image", "inspect"]: print("an/image@sha256:0123")
elif words[0] == "rm":
    pid = here / words[-1]
    if pid.exists(): os.killpg(int(pid.read_text()), signal.SIGKILL)
elif words[0] == "run":
    image = next(word for word in words if word in images)
    own, inner = words[:words.index(image)], words[words.index(image) + 1:]
    said = [(flag, value) for flag, value in zip(own, own[1:])]
    (name,), (port,) = [[v for f, v in said if f == flag] for flag in ("--name", "--publish")]
    if images[image].startswith("tgi"): inner = ["text-generation-launcher", *inner]
    inner = [*(v for f, v in said if f == "--entrypoint"), *inner]
    environment = {{k: v for k, v in os.environ.items() if k != "LOADGEN_ENGINE"}}
    environment |= dict(v.split("=", 1) for f, v in said if f == "--env")
    environment["PATH"] = f"{{here / 'inside'}}:{{environment['PATH']}}"
    environment |= {{"EXACT_ENGINE": images[image], "EXACT_SERVER_PORT": port.split(":")[1]}}
    child = subprocess.Popen(inner, env=environment, start_new_session=True)
    (here / name).write_text(str(child.pid))
    sys.exit(child.wait())
"""
"""A stand-in: it runs what the container would run, of the programs in ``inside``, and on the published port."""

PROGRAM = '#!/bin/sh\nexec {python} {server} --engine "$EXACT_ENGINE" "$@"\n'
MODULE = (
    '#!/bin/sh\n[ "$2" = sglang.launch_server ] && shift 2 && exec {python} {server} --engine sglang "$@"\nexit 1\n'
)
PYTHON = """\
#!{python}
import os, sys
words = sys.argv[1:]
if words[:2] == ["-m", "vllm.entrypoints.openai.api_server"]: words = [{server!r}, "--engine", "vllm-0.1.3", *words[2:]]
os.execv({python!r}, [{python!r}, *words])
"""
"""Of an environment in which vLLM 0.1.3 is installed."""


def write(path: Path, text: str, **values: object) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(python=sys.executable, server=str(SERVER), **values))
    path.chmod(stat.S_IRWXU)


@dataclass(frozen=True)
class Measured:
    """The matrix, done."""

    matrix: Matrix
    noted: Sequence[Noted]
    docker: Sequence[Sequence[str]]
    """What it was told."""

    def cell(self, name: str) -> Cell:
        (cell,) = [cell for cell in self.matrix.cells() if cell.column == name]
        return cell

    def runs(self, name: str) -> Mapping[str, Path]:
        """Folders of an engine's runs, by part."""
        cell = self.cell(name)
        return {part: folder for part in cell.parts if (folder := cell.run_of(part))}

    def of(self, name: str, method: str) -> list[Noted]:
        return [n for n in self.noted if (n["engine"], n["method"]) == (name, method)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    home = Home(tmp_path_factory.mktemp("exact"), tmp_path_factory.mktemp("cache"))
    place, record = home.folder / "programs", home.folder / "noted.jsonl"
    containers = {n: launch.runs_in for n in NAMES for launch in ENGINES[n].launches}
    containers |= {n: ENGINES[n].launches[0].runs_in for n in NAMES}
    images = {runs_in.image: name for name, runs_in in containers.items() if isinstance(runs_in, Container)}
    assert sorted(images.values()) == sorted(set(NAMES) - {"vllm-0.1.3"})
    write(place / "docker", DOCKER, images=images)
    for program in ("text-generation-launcher", "lmdeploy", "trtllm-serve", "ollama"):
        write(place / "inside" / program, PROGRAM)
    write(place / "inside" / "python3", MODULE)
    runs_in = containers["vllm-0.1.3"]
    assert isinstance(runs_in, Environment)
    nvml = fake_nvml(tmp_path_factory.mktemp("nvml"))
    nvml.says(a100(0), a100(1))
    home.more = {
        "PATH": f"{place}:{os.environ['PATH']}",
        "XDG_DATA_HOME": str(home.folder / "data"),
        "EXACT_SERVER_RECORD": str(record),
        **{name: nvml.environment[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")},
    }
    (home.folder / "matrix.toml").write_text(MATRIX)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        patch.setenv("XDG_DATA_HOME", home.more["XDG_DATA_HOME"])
        folder = environments.folder(runs_in, "vllm-0.1.3")
        write(folder / "bin" / "python", PYTHON)
        (folder / "loadgen-complete").touch()
        done = home.loadgen("matrix", "matrix.toml", timeout=280)
    home.loadgen("engine", "down")
    assert done.returncode in {0, 3}, (
        done.stderr
    )  # a busy machine may find a run INVALID, and it is measured all the same
    assert "FAILED" not in done.stderr, done.stderr
    assert (home.engines(), home.processes()) == ([], [])
    told = [json.loads(line) for line in (place / "record").read_text().splitlines()]
    return Measured(reopen(None, home.folder / "results"), lines(record), told)


def test_every_engine_has_a_figure_in_both_tables(measured: Measured) -> None:
    found = results(measured.matrix)
    assert [r.failed for r in found] == [None] * len(NAMES)
    for result in found:
        assert result.speed[0]["speed"]["tokens_per_second_mean"]["value"] > 1
        assert result.throughput[0]["requests"]["completed"] > 0
    page = (measured.matrix.folder / "matrix.md").read_text()
    for words in ("Speed, output tokens/s of one user", "Throughput, requests/min"):
        assert words in page
    for name in NAMES:
        assert ENGINES[name].title in page


@pytest.mark.parametrize("name", NAMES)
def test_records_have_the_tokens_that_the_engine_generated(measured: Measured, name: str) -> None:
    noted = {n["request_id"]: n for n in measured.of(name, "POST") if n.get("finish")}
    runs = measured.runs(name)
    assert set(runs) == {"speed", "streaming", "throughput"}
    for part, folder in runs.items():
        ended = [r for r in store.read(folder)[1] if r.outcome is not Outcome.ABORTED]
        assert len(ended) >= 30
        assert {r.outcome for r in ended} == {Outcome.OK}
        by_text = name == "vllm-0.1.3" and part != "speed"
        for r in ended:
            assert r.output_tokens == noted[r.request_id]["words" if by_text else "output_tokens"]
            assert r.finish_reason == noted[r.request_id]["finish"]
        by = CountedBy.TOKENIZER if by_text else CountedBy.USAGE
        assert {r.counted_by for r in ended} == {by}


@pytest.mark.parametrize("name", ["tgi-1.0.1", "tgi", "sglang", "lmdeploy"])
def test_the_engines_own_counters_reconcile(measured: Measured, name: str) -> None:
    for part, folder in measured.runs(name).items():
        checks = {c["name"]: c for c in json.loads((folder / "summary.json").read_bytes())["verdict"]["checks"]}
        check = checks["the engine's own count of tokens"]
        # LMDeploy's count the end of sequence, which its answers do not.
        assert check["status"] in ({"ok", "warn"} if name == "lmdeploy" else {"ok"}), (part, check)


@pytest.mark.parametrize("name", ["vllm-0.1.3", "tensorrt-llm", "ollama"])
def test_engines_that_do_not_count_tokens_are_not_held_to_it(measured: Measured, name: str) -> None:
    for folder in measured.runs(name).values():
        checks = {c["name"]: c for c in json.loads((folder / "summary.json").read_bytes())["verdict"]["checks"]}
        assert checks["the engine's own count of tokens"]["status"] == "not checked"


def test_tgi_1_0_1_is_sent_the_text_of_our_template(measured: Measured) -> None:
    posted = measured.of("tgi-1.0.1", "POST")
    assert {n["path"] for n in posted} == {"/generate", "/generate_stream"}
    expected = {render(template_text("vicuna_v1.1"), prompt.text) for prompt in load("samples").prompts}
    sent = {r.request_id for folder in measured.runs("tgi-1.0.1").values() for r in store.read(folder)[1]}
    inputs = [n["body"]["inputs"] for n in posted if n["request_id"] in sent]
    assert len(inputs) > 60
    assert set(inputs) <= expected


def test_all_engines_see_the_same_prompts(measured: Measured) -> None:
    page = (measured.matrix.folder / "matrix.md").read_text()
    assert f"The same prompt tokens on all engines, row by row: {MODEL}" in page
    speed = {name: store.read(measured.runs(name)["speed"])[1] for name in NAMES}
    noted = {n["request_id"]: n["prompt_tokens"] for n in measured.noted if "prompt_tokens" in n}
    seen = {name: {r.prompt_row: noted[r.request_id] for r in records} for name, records in speed.items()}
    assert all(rows == seen["sglang"] for rows in seen.values())


def test_a_model_without_stop_strings_has_none_sent(measured: Measured) -> None:
    bodies = [n["body"] for n in measured.noted if "messages" in n.get("body", {}) or "inputs" in n.get("body", {})]
    assert all("stop" not in body.get("parameters", body) for body in bodies)


def test_a_health_that_generates_is_not_polled(measured: Measured) -> None:
    polled = [n["path"] for n in measured.of("sglang", "GET")]
    assert not {"/health", "/health_generate"} & set(polled)
    assert "/ready" in polled


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_asked_of_an_engine_during_a_measurement_but_answers(measured: Measured, name: str) -> None:
    """Health, versions and counters cost it something."""
    when = {n["request_id"]: n["at"] for n in measured.of(name, "POST") if n["request_id"]}
    for folder in measured.runs(name).values():
        times = [when[r.request_id] for r in store.read(folder)[1] if r.phase is Phase.MEASURE and r.request_id in when]
        during = [n["path"] for n in measured.of(name, "GET") if min(times) < n["at"] < max(times)]
        assert during == []


def test_a_container_is_given_all_files_that_its_command_names(measured: Measured) -> None:
    runs = [words for words in measured.docker if words[0] == "run"]
    assert len(runs) == len(NAMES) - 1
    for words in runs:
        mounts = [Path(v.split(":")[0]) for f, v in pairwise(words) if f == "--volume"]
        named = [Path(w) for word in words for w in word.replace("FROM ", " ").split() if w.startswith("/")]
        inside = [path for path in named if path.exists() and "tiny-vicuna" in path.name]
        assert inside
        assert all(any(path == mount or mount in path.parents for mount in mounts) for path in inside)
        assert ("--gpus" in words) == ('"device=0"' in words)

"""Engines that need a GPU or a container, through the whole matrix by servers of their exact protocols."""

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from launching import Home
from nvml import a100, fake_nvml
from test_exact_servers import NAMES, SERVER, Noted, lines

from loadgen.engines.catalogue import ENGINES
from loadgen.engines.engine import Container, Environment
from loadgen.launch import environments
from loadgen.matrix.cell import Cell
from loadgen.matrix.gather import results
from loadgen.matrix.matrix import Matrix, reopen
from loadgen.models.template import render, template_text
from loadgen.record import CountedBy, Outcome, Phase
from loadgen.results import store
from loadgen.results.summary_schema import as_json
from loadgen.workload.datasets import load

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

[model.{MODEL}.shape]
num_hidden_layers = 2
hidden_size = 64
num_attention_heads = 2
num_key_value_heads = 2
intermediate_size = 128
vocab_size = 512
context = 2048
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
    home.assert_ended_well(done)
    assert "FAILED" not in done.stderr, done.stderr
    assert (home.engines(), home.processes()) == ([], [])
    told = [json.loads(line) for line in (place / "record").read_text().splitlines()]
    return Measured(reopen(None, home.folder / "results"), lines(record), told)


def test_every_engine_has_a_figure_in_both_tables(measured: Measured) -> None:
    found = results(measured.matrix)
    assert [r.failed for r in found] == [None] * len(NAMES)
    for result in found:
        assert as_json(result.speed[0])["speed"]["tokens_per_second_mean"]["value"] > 1
        assert result.throughput[0].requests.completed > 0
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
        ended = [r for r in store.read_folder(folder)[1] if r.outcome is not Outcome.ABORTED]
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
    sent = {r.request_id for folder in measured.runs("tgi-1.0.1").values() for r in store.read_folder(folder)[1]}
    inputs = [n["body"]["inputs"] for n in posted if n["request_id"] in sent]
    assert len(inputs) > 60
    assert set(inputs) <= expected


def test_all_engines_see_the_same_prompts(measured: Measured) -> None:
    page = (measured.matrix.folder / "matrix.md").read_text()
    assert f"The same prompt tokens on all engines, row by row: {MODEL}" in page
    speed = {name: store.read_folder(measured.runs(name)["speed"])[1] for name in NAMES}
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
        times = [
            when[r.request_id]
            for r in store.read_folder(folder)[1]
            if r.phase is Phase.MEASURE and r.request_id in when
        ]
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

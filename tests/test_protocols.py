"""Engines that need a GPU or a container, through the whole matrix: their commands and protocols, all but the GPU."""

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from launching import Home
from nvml import a100, fake_nvml

from engines.catalogue import ENGINES
from engines.engine import Container, Environment
from loadgen.launch import environments
from loadgen.launch.weights.random_model import random_model
from loadgen.matrix.cell import Cell
from loadgen.matrix.config import model_of
from loadgen.matrix.config_file import parse
from loadgen.matrix.gather import results
from loadgen.matrix.matrix import Matrix, reopen
from loadgen.models.template import render, template_text
from loadgen.record import CountedBy, Outcome, Phase, RequestRecord
from loadgen.results import store
from loadgen.workload.datasets import load

SERVER = ROOT / "tests" / "protocol_server.py"
NAMES = ("vllm-0.1.3", "tgi-1.0.1", "tgi", "sglang", "tensorrt-llm", "lmdeploy", "ollama")
MODEL = "vicuna-13b-v1.5"
TOKENS = 8
MATRIX = f"""\
engines = {json.dumps(NAMES)}
models = ["{MODEL}"]
dataset = "samples"
sample = 30
max_tokens = {TOKENS}
warmup = 1
weights = "random"

[throughput]
steps = "2"
step_time = 2

[model."{MODEL}"]
dtype = "float16"
shape = {{ layers = 2, hidden = 64, heads = 2, kv_heads = 2, feed_forward = 128, vocabulary = 1024, context = 2048 }}
"""

DOCKER = """\
#!{python}
import json, os, pathlib, signal, subprocess, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
images, server = {images}, {server}
with (here / "record").open("a") as file: file.write(json.dumps(words) + "\\n")
if words[:2] == ["image", "inspect"]: print("an/image@sha256:0123")
elif words[0] == "rm":
    pid = here / words[-1]
    if pid.exists(): os.killpg(int(pid.read_text()), signal.SIGKILL)
elif words[0] == "run":
    image = next(word for word in words if word in images)
    name, port = words[words.index("--name") + 1], words[words.index("--publish") + 1].split(":")[1]
    inner = words[words.index(image) + 1:]
    if "--entrypoint" in words: inner = [words[words.index("--entrypoint") + 1], *inner]
    elif inner[:2] == ["python3", "-m"]: inner = [inner[2], *inner[3:]]
    elif images[image].startswith("tgi"): inner = ["text-generation-launcher", *inner]
    environment = {{k: v for k, v in os.environ.items() if k != "LOADGEN_ENGINE"}}
    environment |= {{"PATH": f"{{here}}:{{os.environ['PATH']}}", "ENGINE": images[image], "PORT": port}}
    child = subprocess.Popen(inner, env=environment, start_new_session=True)
    (here / name).write_text(str(child.pid))
    sys.exit(child.wait())
"""
"""A stand-in: it runs, on the published port, the program that the container would run."""

PROGRAM = """\
#!/bin/sh
exec {python} {server} "$ENGINE" "$PORT" "$@"
"""

OLLAMA = """\
#!/bin/sh
here=$(dirname "$0")
case $1 in
    serve) until [ -e "$here/made" ]; do sleep 0.05; done
           exec {python} {server} ollama "$PORT" "$(cat "$here/made")" "$here/Modelfile" ;;
    create) cp "$4" "$here/Modelfile" && printf %s "$2" > "$here/made" ;;
esac
"""
"""Its server has a model once that was created."""

PYTHON = """\
#!{python}
import os, sys
if sys.argv[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]:
    words = sys.argv[3:]
    port = words[words.index("--port") + 1]
    os.execv({python!r}, [{python!r}, {server}, "vllm-0.1.3", port, *words])
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


def write(path: Path, text: str, **values: object) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(python=sys.executable, server=repr(str(SERVER)), **values))
    path.chmod(stat.S_IRWXU)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Matrix, Sequence[Mapping[str, Any]]]:
    """The matrix, done; and what the engines were asked."""
    home = Home(tmp_path_factory.mktemp("protocols"), tmp_path_factory.mktemp("cache"))
    place = home.folder / "programs"
    images = {
        launch.runs_in.image: name
        for name in NAMES
        for launch in ENGINES[name].launches
        if isinstance(launch.runs_in, Container)
    }
    write(place / "docker", DOCKER, images=images)
    for program in ("lmdeploy", "trtllm-serve", "text-generation-launcher", "sglang.launch_server"):
        write(place / program, PROGRAM)
    write(place / "ollama", OLLAMA)
    (launch,) = ENGINES["vllm-0.1.3"].launches
    assert isinstance(launch.runs_in, Environment)
    nvml = fake_nvml(tmp_path_factory.mktemp("nvml"))
    nvml.says(a100(0), a100(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home.cache))
        patch.setenv("XDG_DATA_HOME", str(home.folder / "data"))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        folder = environments.folder(launch.runs_in, "vllm-0.1.3")
        write(folder / "bin" / "python", PYTHON)
        (folder / "loadgen-complete").touch()
        model = random_model(model_of(parse(MATRIX, "matrix.toml"), MODEL), "config")
        record = home.folder / "asked.jsonl"
        home.more = {
            "PATH": f"{place}:{os.environ['PATH']}",
            "XDG_DATA_HOME": str(home.folder / "data"),
            "PROTOCOL_SERVER_MODEL": str(model),
            "PROTOCOL_SERVER_RECORD": str(record),
            **{name: nvml.environment[name] for name in ("LD_LIBRARY_PATH", "FAKE_NVML_SCRIPT")},
        }
        (home.folder / "matrix.toml").write_text(MATRIX)
        done = home.loadgen("matrix", "matrix.toml", timeout=280)
    home.loadgen("engine", "down")
    assert "FAILED" not in done.stderr, done.stderr
    assert (home.engines(), home.processes()) == ([], [])
    asked = [json.loads(line) for line in record.read_text().splitlines()]
    return reopen(None, home.folder / "results"), asked


Measured = tuple[Matrix, Sequence[Mapping[str, Any]]]


def records(matrix: Matrix, name: str) -> Mapping[str, Sequence[RequestRecord]]:
    """What was recorded of an engine, part by part."""
    cell = cell_of(matrix, name)
    return {part: store.read(folder)[1] for part in cell.parts if (folder := cell.run_of(part))}


def cell_of(matrix: Matrix, name: str) -> Cell:
    (cell,) = [cell for cell in matrix.cells() if cell.column == name]
    return cell


def test_all_of_them_have_a_figure_in_both_tables(measured: Measured) -> None:
    matrix, _ = measured
    found = results(matrix)
    assert [r.failed for r in found] == [None] * len(NAMES)
    for result in found:
        assert result.speed[0]["speed"]["tokens_per_second_mean"]["value"] > 1
        assert result.throughput[0]["requests"]["completed"] > 0
    page = (matrix.folder / "matrix.md").read_text()
    for title in (ENGINES[name].title for name in NAMES):
        assert title in page


COUNTED = {
    "vllm-0.1.3": (CountedBy.USAGE, CountedBy.TOKENIZER),
    "tgi-1.0.1": (CountedBy.USAGE, CountedBy.USAGE),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_has_as_many_tokens_as_the_engine_made(measured: Measured, name: str) -> None:
    by_part = records(measured[0], name)
    assert set(by_part) == {"speed", "streaming", "throughput"}
    for part, found in by_part.items():
        ended = [r for r in found if r.outcome is not Outcome.ABORTED]
        assert {r.outcome for r in ended} == {Outcome.OK}
        assert {r.output_tokens for r in ended} == {TOKENS}
        by = COUNTED.get(name, (CountedBy.USAGE, CountedBy.USAGE))[part != "speed"]
        assert {r.counted_by for r in ended} == {by}
        assert {r.finish_reason for r in ended} == {"length"}
        assert {r.chunks for r in ended if r.lazy is False} == ({0} if part == "speed" else {TOKENS})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"vllm-0.1.3", "tensorrt-llm", "ollama"}])
def test_the_engines_own_counters_agree(measured: Measured, name: str) -> None:
    cell = cell_of(measured[0], name)
    folder = cell.run_of("streaming")
    assert folder is not None
    checks = {c["name"]: c for c in json.loads((folder / "summary.json").read_bytes())["verdict"]["checks"]}
    assert checks["the engine's own count of tokens"]["status"] == "ok"


def test_all_were_given_the_same_prompt_tokens(measured: Measured) -> None:
    page = (measured[0].folder / "matrix.md").read_text()
    assert f"The same prompt tokens on all engines, row by row: {MODEL} (6 engines, 31 rows)." in page
    assert "TGI 1.0.1 tells only the sum of its prompt tokens, " in page
    assert "and it is" not in page


def test_the_client_makes_the_prompts_of_an_engine_without_a_chat_route(measured: Measured) -> None:
    texts = {prompt.text for prompt in load("samples").prompts}
    expected = {render(template_text("vicuna_v1.1"), text) for text in texts}
    sent = [a["body"]["inputs"] for a in measured[1] if a["engine"] == "tgi-1.0.1" and "body" in a]
    routes = {a["path"] for a in measured[1] if a["engine"] == "tgi-1.0.1" and "body" in a}
    assert routes == {"/generate", "/generate_stream"}
    measured_prompts = [text for text in sent if len(text) > len("Say hello.")]
    assert len(measured_prompts) > 60
    assert set(measured_prompts) <= expected


def test_nobody_polls_a_health_that_generates(measured: Measured) -> None:
    asked = Counter(a["path"] for a in measured[1] if a["engine"] == "sglang" and "body" not in a)
    assert asked["/health"] == 0
    assert asked["/ready"] > 0


def test_no_metrics_are_read_between_the_first_request_and_the_last(measured: Measured) -> None:
    """They cost the engine something: they are read before and after."""
    paths = [a["path"] for a in measured[1] if a["engine"] == "lmdeploy"]
    assert paths.count("/metrics") == 2 * 3


@pytest.mark.parametrize("name", NAMES)
def test_the_version_that_an_engine_tells_is_kept(measured: Measured, name: str) -> None:
    cell = cell_of(measured[0], name)
    folder = cell.run_of("speed")
    assert folder is not None
    launched = store.read_manifest(folder).launched
    assert launched is not None
    assert set(launched.says) == set(ENGINES[name].tells)
    versions = [said["version"] for said in launched.says.values()]
    assert all(version in ENGINES[name].title for version in versions)
    assert (launched.image_digest is None) == (name == "vllm-0.1.3")


def test_records_of_the_warm_up_are_apart(measured: Measured) -> None:
    (warm,) = [r for r in records(measured[0], "tgi")["speed"] if r.phase is Phase.WARMUP]
    assert warm.outcome is Outcome.OK

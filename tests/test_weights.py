"""Models of random weights: a real engine loads them, and they are what their shape says."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
from asking import question
from safetensors import safe_open
from tokenizers import Tokenizer

from loadgen.engines.catalogue import ENGINES
from loadgen.launch.child import ChildServer
from loadgen.launch.weights.random_model import random_model
from loadgen.launch.weights.tokenizer import BEGIN, vocabulary_of
from loadgen.models.model import Model
from loadgen.models.shape import BYTES, Architecture, Dtype, Shape
from loadgen.models.template import render, template_text
from loadgen.protocol.client import Client, Settings
from loadgen.record import Outcome, RequestRecord
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter
from loadgen.workload.datasets import load

SHAPES: dict[Architecture, Shape] = {
    "llama": Shape(
        num_hidden_layers=2,
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        vocab_size=700,
        context=1024,
    ),
    "falcon": Shape(
        architecture="falcon",
        num_hidden_layers=2,
        hidden_size=96,
        num_attention_heads=3,
        num_key_value_heads=1,
        intermediate_size=384,
        vocab_size=300,
        context=1024,
        tied=True,
    ),
    "mpt": Shape(
        architecture="mpt",
        num_hidden_layers=2,
        hidden_size=96,
        num_attention_heads=6,
        num_key_value_heads=6,
        intermediate_size=384,
        vocab_size=9000,
        context=1024,
        tied=True,
    ),
}
PROMPTS = ("Why is the sky blue?", "空はなぜ青い", "\n", "a </s> b <s> c")


def tiny(architecture: Architecture = "llama", dtype: Dtype = "float16", template: str | None = None) -> Model:
    return Model(name=f"tiny {architecture}", shape=SHAPES[architecture], dtype=dtype, template=template)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def read(folder: Path, file: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / file).read_text())
    return content


# As llama.cpp takes them.


class Answer(NamedTuple):
    text: str
    given: int
    tokens: int
    reason: str


def ask(server: ChildServer, prompt: str, max_tokens: int) -> Answer:
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens, "temperature": 0}
    request = urllib.request.Request(f"{server.host}/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request) as response:
        said = json.load(response)
    (choice,) = said["choices"]
    usage = said["usage"]
    return Answer(
        choice["message"]["content"], usage["prompt_tokens"], usage["completion_tokens"], choice["finish_reason"]
    )


def stream(server: ChildServer, prompt: str, max_tokens: int) -> RequestRecord:
    settings = Settings(parse_target(server.host), ENGINES["llamacpp"].api, Timeouts(5, 60, 60, 120))
    asked = question(prompt, model="random-llama", max_tokens=max_tokens)
    return Client(settings, PollWaiter()).send(asked).record


@pytest.fixture(
    params=[
        ("llama", "float32", None),
        ("llama", "bfloat16", "oasst_llama"),
        ("falcon", "float16", "falcon"),
        ("falcon", "bfloat16", None),
        ("mpt", "float16", "mpt-7b-chat"),
        ("mpt", "float32", None),
    ],
    ids=str,
)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Model, ChildServer]]:
    model = tiny(*request.param)
    server = ChildServer("loadgen.launch.llamacpp_server", [str(random_model(model, "gguf")), "2", "512"])
    yield model, server
    server.stop()


def test_llama_cpp_answers_in_plain_text_of_exactly_max_tokens(served: tuple[Model, ChildServer]) -> None:
    _, server = served
    for prompt in PROMPTS:
        answer = ask(server, prompt, 48)
        assert (answer.tokens, answer.reason) == (48, "length")
        assert answer.text.isascii()
        assert answer.text.isprintable()
        record = stream(server, prompt, 48)
        assert (record.outcome, record.output_tokens, record.chunks) == (Outcome.OK, 48, 48)
        assert record.output_characters == len(answer.text)


def test_llama_cpp_reads_as_many_tokens_as_template_and_tokenizer_make(served: tuple[Model, ChildServer]) -> None:
    model, server = served
    folder = random_model(model, "config")
    text = render((folder / "chat_template.jinja").read_text(), "Hello, world", bos_token="<s>")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    assert ask(server, "Hello, world", 1).given == len(tokens)
    begun = [BEGIN] if model.shape and model.shape.architecture == "llama" else []
    assert tokenizer.encode(text).ids == begun + tokens  # as LLaMA's does where there is no template


# As transformers takes them.


def stored(folder: Path) -> dict[str, tuple[str, list[int], str]]:
    """Of each tensor: its type, size and file."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            for name in file.keys():  # noqa: SIM118 it is no mapping
                piece = file.get_slice(name)
                found[name] = (piece.get_dtype(), piece.get_shape(), path.name)
    return found


@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("architecture", SHAPES)
def test_a_folder_holds_what_its_shape_says(architecture: Architecture, dtype: Dtype) -> None:
    model = tiny(architecture, dtype)
    assert model.shape is not None
    folder = random_model(model, "safetensors")
    tensors = stored(folder)
    elements = sum(int.__mul__(*size) if len(size) > 1 else size[0] for _, size, _ in tensors.values())
    assert elements == model.shape.parameters
    assert {kind for kind, _, _ in tensors.values()} == {
        {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[dtype]
    }
    index = read(folder, "model.safetensors.index.json")
    assert index["weight_map"] == {name: file for name, (_, _, file) in tensors.items()}
    assert index["metadata"]["total_size"] == model.shape.weight_bytes(dtype)
    config = read(folder, "config.json")
    assert (config["model_type"], config["torch_dtype"]) == (architecture, dtype)
    assert config["vocab_size"] == model.shape.vocab_size
    assert config["tie_word_embeddings"] is model.shape.tied is ("lm_head.weight" not in tensors)


@pytest.mark.parametrize("shape", [replace(s, tied=tied) for s in SHAPES.values() for tied in (False, True)])
def test_a_gguf_file_has_the_same_parameters(shape: Shape) -> None:
    path = random_model(Model(name="m", shape=shape), "gguf")
    tensors = gguf.GGUFReader(path).tensors
    assert sum(int(t.n_elements) for t in tensors) == shape.parameters
    assert {t.tensor_type.name for t in tensors if len(t.shape) == 1} == {"F32"}
    assert {t.tensor_type.name for t in tensors if len(t.shape) > 1} == {"F16"}


def test_large_models_are_spread_over_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.launch.weights.safetensors.FILE_BYTES", 100_000)
    folder = random_model(tiny("llama", "float32"), "safetensors")
    sizes = [path.stat().st_size for path in sorted(folder.glob("*.safetensors"))]
    assert len(sizes) > 4
    (largest,) = [size for size in sizes if size > 110_000][:1]
    assert largest < 700 * 64 * 4 + 1000  # one tensor alone
    assert sorted(set(read(folder, "model.safetensors.index.json")["weight_map"].values())) == [
        f"model-{i:05}-of-{len(sizes):05}.safetensors" for i in range(1, len(sizes) + 1)
    ]


@pytest.mark.parametrize(("dtype", "worth"), [("float16", np.float16), ("float32", np.float32)])
def test_weights_keep_the_root_mean_square_of_what_they_are_given(dtype: Dtype, worth: type) -> None:
    folder = random_model(tiny("llama", dtype), "safetensors")
    with safe_open(next(folder.glob("*.safetensors")), "numpy") as file:
        for name in file.keys():  # noqa: SIM118
            values = file.get_tensor(name).astype(np.float64)
            assert file.get_tensor(name).dtype == worth
            if values.ndim == 1:
                assert np.all(values == 1)
            elif "embed" not in name and "lm_head" not in name:
                gain = np.sqrt(np.mean(values**2) * values.shape[1])
                assert 0.7 < gain < 1.42
                assert abs(np.mean(np.sign(values))) < 0.05


def test_a_config_is_the_folder_without_weights() -> None:
    model = tiny("mpt", template="mpt-7b-chat")
    full, config = random_model(model, "safetensors"), random_model(model, "config")
    beside = {path.name for path in full.iterdir()} - {path.name for path in config.iterdir()}
    assert {name.partition("-")[0].partition(".")[0] for name in beside} == {"model"}
    for path in config.iterdir():
        assert path.read_bytes() == (full / path.name).read_bytes()
    assert (config / "chat_template.jinja").read_text() == template_text("mpt-7b-chat")


# Its tokenizer.


@pytest.mark.parametrize("size", [300, 2048, 32000, 65024])
def test_every_token_but_the_quiet_ones_is_plain_text(size: int) -> None:
    vocabulary = vocabulary_of(size, template_text("oasst_llama"))
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary.tokenizer))
    assert tokenizer.get_vocab_size() == len(vocabulary.tokens) == size
    assert vocabulary.special[5:] == ("<|prompter|>", "<|assistant|>")
    quiet = set(vocabulary.quiet)
    assert set(range(len(vocabulary.special))) <= quiet
    assert len(quiet) < 600
    for number in range(size):
        said = tokenizer.decode([number], skip_special_tokens=True)
        if number not in quiet:
            assert said.isascii()
            assert said.strip().isprintable()
            assert said.strip()


def test_prompts_are_cut_into_trained_tokens_alone_and_come_back() -> None:
    vocabulary = vocabulary_of(32000, "")
    tokenizer = Tokenizer.from_str(json.dumps(vocabulary.tokenizer))
    trained = vocabulary_of(32000, "").tokens.index(" aaa".replace(" ", "\u0120"))
    for text in (*(p.text for p in load("samples").prompts), "aaa aaa aab zzz", "空はなぜ青い", "a\r\n\tb"):
        ids = tokenizer.encode(text).ids
        assert max(ids) < trained
        assert tokenizer.decode(ids) == text
    assert tokenizer.encode("<s>a<|im_end|>").tokens == ["<s>", "a", "<|im_end|>"]

"""Models of random weights are made once, and are there whole or not at all."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from loadgen.errors import EngineError
from loadgen.launch.weights.cache import kept
from loadgen.launch.weights.random_model import Form, model_path, random_model
from loadgen.models.model import Model
from loadgen.models.shape import Shape
from loadgen.models.table import MODELS

SHAPE = Shape(
    num_hidden_layers=2,
    hidden_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=96,
    vocab_size=700,
    context=1024,
)
FALCON = replace(SHAPE, architecture="falcon", num_key_value_heads=1, tied=True)
MPT = replace(SHAPE, architecture="mpt", num_key_value_heads=4, intermediate_size=256, tied=True)
TINY = Model(name="tiny llama", shape=SHAPE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "loadgen" / "models"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def digest(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("form", ["safetensors", "gguf", "config"])
def test_the_same_model_is_the_same_bytes(form: Form, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for folder in ("a", "b"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
        made.append(random_model(TINY, form))
    assert made[0] != made[1]
    assert digest(made[0]) == digest(made[1])


def test_what_is_there_is_not_made_again_and_what_differs_is(cache: Path) -> None:
    shares: list[float] = []
    path = random_model(TINY, "gguf", shares.append)
    assert path == model_path(TINY, "gguf")
    assert path.parent.parent == cache
    assert path.parent.name.startswith("tiny-llama-")
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert len(shares) > 10
    written = path.stat().st_mtime_ns
    assert random_model(TINY, "gguf", shares.append) == path
    assert (path.stat().st_mtime_ns, shares.count(1.0)) == (written, 1)
    others = [
        random_model(replace(TINY, dtype="float32"), "gguf").parent,
        random_model(replace(TINY, template="falcon"), "gguf").parent,
        random_model(replace(TINY, shape=replace(SHAPE, num_hidden_layers=1)), "gguf").parent,
        random_model(TINY, "config"),
    ]
    assert len({path.parent, *others}) == 5
    assert {p.name for p in cache.iterdir()} == {".unfinished", path.parent.name, *(p.name for p in others)}


def test_a_model_without_a_shape_is_refused_with_a_way_out() -> None:
    with pytest.raises(EngineError, match=r"vicuna: random weights need its shape\. .*matrix\.toml.*trained weights"):
        random_model(Model(name="vicuna"), "gguf")


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (
            replace(SHAPE, num_attention_heads=3),
            "hidden_size is not a multiple of num_attention_heads; num_attention_heads is not a multiple of",
        ),
        (replace(FALCON, num_key_value_heads=3), "falcon has num_key_value_heads = 1"),
        (replace(MPT, num_key_value_heads=2), "mpt has as many num_key_value_heads as num_attention_heads"),
        (replace(MPT, intermediate_size=100), "intermediate_size of 4 times hidden_size"),
        (replace(SHAPE, vocab_size=200), "a vocabulary of 300"),
    ],
)
def test_a_shape_that_no_engine_would_load_is_refused(shape: Shape, why: str, cache: Path) -> None:
    with pytest.raises(EngineError, match=why):
        random_model(Model(name="m", shape=shape), "gguf")
    assert not cache.exists()


def test_all_shapes_of_the_table_can_be_made() -> None:
    for model in MODELS.values():
        if model.shape is not None:
            folder = random_model(model, "config")
            assert json.loads((folder / "config.json").read_text())["vocab_size"] == model.shape.vocab_size


def test_a_disk_that_is_too_small_is_told_beforehand(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=27_000_000_000))
    model = Model(
        name="13b",
        shape=Shape(
            num_hidden_layers=40,
            hidden_size=5120,
            num_attention_heads=40,
            num_key_value_heads=40,
            intermediate_size=13824,
            vocab_size=32000,
            context=2048,
        ),
    )
    with pytest.raises(EngineError, match=r"27\.3 GB in .*/loadgen/models, where 27\.0 GB are free.*XDG_CACHE_HOME"):
        random_model(model, "safetensors")
    assert not [path for path in cache.rglob("*") if path.name not in {".unfinished", ".lock"}]
    assert random_model(model, "config").exists()


def test_a_cache_that_cannot_be_written_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"cannot write there .*XDG_CACHE_HOME"):
        random_model(TINY, "config")


MAKER = """
import sys
from loadgen.launch.weights.random_model import random_model
from loadgen.models.model import Model
from loadgen.models.shape import Shape

def progress(share):
    if 0.5 < share < 1:
        print(share, flush=True)
        sys.stdin.read()

heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
shape = Shape(num_hidden_layers=4, hidden_size=64, intermediate_size=96, vocab_size=700, context=1024, **heads)
random_model(Model(name="slow", shape=shape), sys.argv[1], progress)
"""


@contextmanager
def halfway(form: Form) -> "Iterator[subprocess.Popen[str]]":
    """A process that has made half of a model, and goes on when its standard input is closed."""
    command = [sys.executable, "-c", MAKER, form]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert float(process.stdout.readline()) > 0.5
        yield process


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_maker_that_is_killed_leaves_nothing_half(form: Form, cache: Path) -> None:
    with halfway(form) as process:
        assert names(cache) == [".unfinished"]
        assert [path for path in (cache / ".unfinished").iterdir() if path.is_dir()]
        process.send_signal(signal.SIGKILL)
    assert names(cache) == [".unfinished"]
    made = random_model(TINY, "config")
    assert made.exists()
    assert names(cache / ".unfinished") == [".lock"]


def test_a_maker_at_work_is_left_alone(cache: Path) -> None:
    with halfway("gguf") as process:
        random_model(TINY, "config")
        (at_work,) = [path for path in (cache / ".unfinished").iterdir() if path.is_dir()]
        assert at_work.name.startswith("slow-")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert len([path for path in cache.iterdir() if path.name.startswith("slow-")]) == 1
    assert names(cache / ".unfinished") == [".lock"]


def test_of_two_makers_of_the_same_the_first_to_end_wins(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m"

    def quick(made: Path) -> None:
        (made / "by").write_text("quick")

    def slow(made: Path) -> None:
        (made / "by").write_text("slow")
        kept(folder, 0, quick)

    kept(folder, 0, slow)
    assert (folder / "by").read_text() == "quick"
    assert names(folder) == ["by"]
    assert names(tmp_path / "models" / ".unfinished") == [".lock"]


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(made: Path) -> None:
        (made / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        kept(tmp_path / "models" / "m", 0, fail)
    assert names(tmp_path / "models") == [".unfinished"]
    assert names(tmp_path / "models" / ".unfinished") == [".lock"]

"""Where an engine's model comes from: a folder, a file, the Hub; and our chat template laid over what has none."""

from pathlib import Path

import pytest
from launching import Home

from loadgen.engines.engine import Environment, Launch
from loadgen.errors import EngineError
from loadgen.launch import sources
from loadgen.launch.weights.random_model import Form, random_model
from loadgen.live.status import Status
from loadgen.models.model import Model
from loadgen.models.shape import Shape
from loadgen.models.template import template_text

SHAPE = Shape(
    num_hidden_layers=2,
    hidden_size=64,
    num_attention_heads=2,
    num_key_value_heads=2,
    intermediate_size=128,
    vocab_size=512,
    context=1024,
)
HUB = Launch(runs_in=Environment(), commands=lambda _: [])


@pytest.fixture
def made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder, as somebody may have one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return random_model(Model(name="own", shape=SHAPE, dtype="float32"), "safetensors")


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
def test_a_model_of_ones_own_is_a_folder_or_a_file(
    home: Home, cache: Path, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    path = random_model(Model(name="own", shape=SHAPE, dtype="float32"), form)
    engine = {"safetensors": "transformers", "gguf": "llamacpp"}[form]
    up = home.loadgen("engine", "up", engine, "--model", path)
    assert up.returncode == 0, up.stderr
    (running,) = home.engines()
    assert running.launched is not None
    assert (running.launched.weights, running.launched.source) == ("trained", str(path))
    if form == "safetensors":  # its config.json tells
        assert running.launched.dtype == "float32"
        assert running.launched.weight_bytes == SHAPE.weight_bytes("float32")


def test_our_template_is_laid_over_a_folder_without_changing_it(made: Path) -> None:
    before = (made / "chat_template.jinja").read_text()
    model = Model(name="own", source=str(made), template="vicuna_v1.1")
    source = sources.get(model, HUB, is_random=False, status=Status())
    assert source == sources.expected(model, HUB, is_random=False)
    assert source.path != str(made)
    laid = Path(source.path)
    assert {file.name for file in laid.iterdir()} == {file.name for file in made.iterdir()}
    assert (laid / "chat_template.jinja").read_text() == template_text("vicuna_v1.1") != before
    assert (laid / "config.json").resolve() == (made / "config.json").resolve()
    assert (made / "chat_template.jinja").read_text() == before
    assert sources.get(model, HUB, is_random=False, status=Status()) == source  # again


def test_a_folder_without_a_config_is_none(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"is not a folder with a config\.json"):
        sources.check(Model(name="own", source=str(tmp_path)), HUB, is_random=False)


def test_a_model_that_the_hub_does_not_give_says_what_to_do_instead(home: Home) -> None:
    done = home.loadgen("engine", "up", "transformers", "--model", "me/mine")
    assert done.returncode == 2
    assert "mine: me/mine cannot be fetched from the Hub" in done.stderr
    assert "name a folder that has it" in done.stderr
    assert "Traceback" not in done.stderr
    assert home.engines() == []

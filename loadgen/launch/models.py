"""Finds the model that a user names."""

import json
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from loadgen.errors import EngineError
from loadgen.models.model import Model
from loadgen.models.shape import Dtype, Shape
from loadgen.models.table import MODELS, find_model


def model_named(name: str) -> Model:
    """Return the model of a table name, Hub id, folder or GGUF file; raises EngineError if it is none of these."""
    if (known := find_model(name)) is not None:
        return known
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        return Model(name=path.stem, gguf=str(path.absolute()))
    if path.is_dir():
        return of_folder(Model(name=path.absolute().name, source=str(path.absolute())), path)
    if name.startswith((".", "/", "~")):
        raise EngineError(f"model {name}: there is no such folder or GGUF file.")
    if name.count("/") == 1:
        return Model(name=name.rpartition("/")[2], source=name)
    near = get_close_matches(name, MODELS, 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise EngineError(
        f"unknown model {name!r}: {meant}There are {', '.join(MODELS)}; one of your own is a Hub id (OWNER/NAME), a "
        "folder with a config.json, or a GGUF file."
    )


def of_folder(model: Model, folder: Path) -> Model:
    """Return a model with the shape and the type that its ``config.json`` tells, as far as we know such models."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return model
    dtype = config.get("dtype") or config.get("torch_dtype")
    return replace(model, shape=_shape(config), dtype=dtype if dtype in get_args(Dtype) else model.dtype)


def _shape(config: Mapping[str, Any]) -> Shape | None:
    if config.get("model_type") != "llama":
        return None
    try:
        return Shape(
            num_hidden_layers=config["num_hidden_layers"],
            hidden_size=config["hidden_size"],
            num_attention_heads=config["num_attention_heads"],
            num_key_value_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            intermediate_size=config["intermediate_size"],
            vocab_size=config["vocab_size"],
            context=config["max_position_embeddings"],
            tied=bool(config.get("tie_word_embeddings")),
        )
    except KeyError:
        return None

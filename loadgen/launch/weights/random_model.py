"""A model of random weights: generated locally, it takes an engine as long as a trained one of its shape.

It says nothing of sense, but plainly: greedy decoding chooses no special token and nothing that is not printable ASCII
by itself, so that an answer ends only at ``max_tokens`` and has one token a chunk.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from loadgen.errors import EngineError
from loadgen.launch.folders import cache_folder
from loadgen.launch.weights.cache import kept
from loadgen.launch.weights.tokenizer import LEAST
from loadgen.models.model import Model
from loadgen.models.shape import Shape
from loadgen.models.template import template_text
from loadgen.workload.datasets import SAMPLES

Form = Literal["safetensors", "gguf", "config"]
"""A folder that transformers, vLLM or SGLang loads; a file that llama.cpp loads; that folder without its weights."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Template of a model that names none."""

TEXTS = 4_000_000
"""Bytes, at most, of what is no weights: a vocabulary of 65,024 takes 1.4 MB."""


def random_model(model: Model, form: Form, progress: Callable[[float], None] | None = None) -> Path:
    """Return the folder of a model, or its file if ``form`` is GGUF; it is made on first use, and kept.

    The same model is made of the same bytes. While it is made, ``progress`` gets the share that is done, from 0 to 1.
    Raises EngineError if the model has no shape, if its shape is not valid, or if the disk has too little space.
    """
    path = model_path(model, form)
    shape = shape_of(model)
    size = TEXTS + (0 if form == "config" else shape.weight_bytes(model.dtype))

    def make(folder: Path) -> None:
        _make(folder / path.name if form == "gguf" else folder, model, form, progress or (lambda _: None))

    kept(path.parent if form == "gguf" else path, size, make)
    return path


def model_path(model: Model, form: Form) -> Path:
    """Return the path of a model, which exists once it is made; raises EngineError if it cannot be made."""
    name = re.sub(r"[^\w.-]+", "-", model.name)[:80]
    folder = cache_folder() / "models" / f"{name}-{_identity(model, form)}"
    return folder / f"{name}.gguf" if form == "gguf" else folder


def shape_of(model: Model) -> Shape:
    """Return a model's shape; raises EngineError if it has none, or one that no engine would load."""
    if model.shape is None:
        raise EngineError(
            f"{model.name}: random weights need its shape. Give it one in matrix.toml, or use its trained weights."
        )
    wrong = "; ".join(_faults(model.shape))
    if wrong:
        raise EngineError(
            f"{model.name}: random weights of its shape cannot be made: {wrong}. Correct it in matrix.toml."
        )
    return model.shape


def _faults(shape: Shape) -> Iterator[str]:
    heads, kv_heads = shape.num_attention_heads, shape.num_key_value_heads
    numbers = (shape.num_hidden_layers, shape.hidden_size, heads, kv_heads, shape.intermediate_size, shape.context)
    if min(numbers) < 1:
        yield "its numbers must be at least 1"
        return
    if shape.hidden_size % heads:
        yield "hidden_size is not a multiple of num_attention_heads"
    if heads % kv_heads:
        yield "num_attention_heads is not a multiple of num_key_value_heads"
    if shape.architecture == "falcon" and kv_heads != 1:
        yield "falcon has num_key_value_heads = 1, as in 7B"
    if shape.architecture == "mpt" and kv_heads != heads:
        yield "mpt has as many num_key_value_heads as num_attention_heads"
    if shape.architecture == "mpt" and shape.intermediate_size != 4 * shape.hidden_size:
        yield "mpt has an intermediate_size of 4 times hidden_size"
    if shape.vocab_size < LEAST:
        yield f"bytes and special tokens alone take a vocabulary of {LEAST}"


def _template(model: Model) -> str:
    return CHATML if model.template is None else template_text(model.template)


def _identity(model: Model, form: Form) -> str:
    """Return a name for everything that decides what is written, our own source included."""
    sources = [*sorted(Path(__file__).parent.glob("*.py")), SAMPLES]
    described = repr((model.name, shape_of(model), model.dtype, _template(model), form)).encode()
    return hashlib.sha256(described + b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]


def _make(path: Path, model: Model, form: Form, progress: Callable[[float], None]) -> None:
    from loadgen.launch.weights.gguf import write_gguf
    from loadgen.launch.weights.hub import write_folder
    from loadgen.launch.weights.recipe import Recipe
    from loadgen.launch.weights.safetensors import write_safetensors

    recipe = Recipe(
        name=model.name, shape=shape_of(model), dtype=model.dtype, template=_template(model), progress=progress
    )
    if form == "gguf":
        write_gguf(path, recipe)
    else:
        write_folder(path, recipe)
    if form == "safetensors":
        write_safetensors(path, recipe)
    progress(1.0)

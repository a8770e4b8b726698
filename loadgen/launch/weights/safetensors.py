"""Weights as safetensors, a file at a time: no more than one is ever in memory."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from safetensors import TensorSpec, serialize_file

from loadgen.launch.weights.recipe import Recipe
from loadgen.launch.weights.tensors import Tensor
from loadgen.models.shape import BYTES

FILE_BYTES = 1 << 29
"""Of one file, at most, unless a single tensor is larger."""


def write_safetensors(folder: Path, recipe: Recipe) -> None:
    """Write a model's weights into a folder, in as many files as they need, and the index of these."""
    files = list(_files(recipe.tensors, FILE_BYTES // BYTES[recipe.dtype]))
    index: dict[str, str] = {}
    for number, tensors in enumerate(files, 1):
        file = f"model-{number:05}-of-{len(files):05}.safetensors"
        _write(folder / file, recipe, tensors)
        index.update((tensor.name, file) for tensor in tensors)
    content = {"metadata": {"total_size": recipe.shape.weight_bytes(recipe.dtype)}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _write(path: Path, recipe: Recipe, tensors: Sequence[Tensor]) -> None:
    made = {tensor.name: recipe.values(tensor, recipe.dtype) for tensor in tensors}
    described = {  # by address: the library knows bfloat16, numpy does not
        name: TensorSpec(dtype=recipe.dtype, shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes)
        for name, bits in made.items()
    }
    serialize_file(described, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the library leaves it to its owner alone; in a container somebody else reads it


def _files(tensors: Sequence[Tensor], limit: int) -> Iterator[list[Tensor]]:
    """Share tensors out to files, in their order, by a limit of elements."""
    file: list[Tensor] = []
    for tensor in tensors:
        if file and sum(t.elements for t in (*file, tensor)) > limit:
            yield file
            file = []
        file.append(tensor)
    yield file

"""Random numbers as the bits of floats, which are made faster than a disk takes them.

A number has a random sign, a random mantissa and the exponent of its tensor: it lies at random between a power of two
and the next one, or between their negatives. That takes two operations on 64 random bits, and is the same for all
types, bfloat16 too, which numpy does not know.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadgen.launch.weights.tensors import Tensor
from loadgen.models.shape import BYTES, Dtype

Bits = NDArray[np.unsignedinteger[Any]]
"""Floats by their bits: unsigned integers of their width."""

RMS = sqrt(7 / 3)
"""Root mean square of numbers spread evenly between 1 and 2."""

QUIET = 5
"""How many powers of two the rows of tokens that are never to be said lie below the others'."""

_PIECE = 1 << 16
"""64-bit words made at a time: they stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class _Layout:
    mantissa: int
    """Bits."""
    bias: int
    """Of the exponent."""


_LAYOUTS: dict[Dtype, _Layout] = {
    "float16": _Layout(10, 15),
    "bfloat16": _Layout(7, 127),
    "float32": _Layout(23, 127),
}


def values_of(tensor: Tensor, dtype: Dtype, quiet: Sequence[int]) -> Bits:
    """Return a tensor's values, always the same for its name, size and type.

    Matrices keep the root mean square of what they are multiplied with. Norms do nothing more than to norm. ``quiet``
    are the rows, in a tensor of the vocabulary, of tokens that greedy decoding shall not choose: they are small, so
    that their logits lie near 0 and below the largest of the others. They are not zero, as a prompt of such tokens
    alone would then be nothing at all where the embedding is the output layer too.
    """
    layout, unsigned = _LAYOUTS[dtype], np.dtype(f"u{BYTES[dtype]}")
    if tensor.kind in {"scale", "shift"}:
        one = layout.bias << layout.mantissa
        return np.full(tensor.size, one if tensor.kind == "scale" else 0, dtype=unsigned)
    exponent = layout.bias + round(log2(1 / (RMS * sqrt(tensor.size[-1]))))
    free = (1 << 8 * BYTES[dtype] - 1) | (1 << layout.mantissa) - 1
    values = _random(tensor, free, exponent << layout.mantissa, unsigned)
    if tensor.kind == "vocabulary":
        rows = list(quiet)
        values[rows] = values[rows] & unsigned.type(free) | unsigned.type(exponent - QUIET << layout.mantissa)
    return values


def _random(tensor: Tensor, free: int, fixed: int, unsigned: "np.dtype[np.unsignedinteger[Any]]") -> Bits:
    """Return numbers of which some bits are random and the others fixed."""
    generator = np.random.SFC64(int.from_bytes(hashlib.sha256(tensor.name.encode()).digest()[:8]))
    mask, constant = (_everywhere(bits, 8 * unsigned.itemsize) for bits in (free, fixed))
    words = np.empty(-(-tensor.elements * unsigned.itemsize // 8), dtype=np.uint64)
    for start in range(0, len(words), _PIECE):
        piece = words[start : start + _PIECE]
        np.bitwise_and(generator.random_raw(len(piece)), mask, out=piece)
        np.bitwise_or(piece, constant, out=piece)
    return words.view(unsigned)[: tensor.elements].reshape(tensor.size)


def _everywhere(bits: int, width: int) -> np.uint64:
    """Return a word that holds so many bits as often as it has room for them."""
    return np.uint64(sum(bits << place for place in range(0, 64, width)))

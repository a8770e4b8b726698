"""What tensors an architecture has: their names on the Hub and in GGUF, and their sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from loadgen.models.shape import Architecture, Shape

Kind = Literal["matrix", "vocabulary", "scale", "shift"]
"""What it holds: a matrix; one with a row for each token; a norm's factors; a norm's bias."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a model."""

    name: str
    """In safetensors, as transformers has it."""
    gguf: str
    """In GGUF, as llama.cpp has it."""
    size: tuple[int, ...]
    kind: Kind = "matrix"

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """Pairs of names of an architecture, on the Hub and in GGUF. ``#`` is the layer's number.

    A size is written in the letters of :func:`_dimensions`, rows first.
    """

    embedding: tuple[str, str]
    layer: tuple[tuple[str, str, str], ...]
    norm: tuple[tuple[str, str, str], ...]
    output: tuple[str, str] = ("lm_head.weight", "output.weight")


_NAMES: dict[Architecture, _Names] = {
    "llama": _Names(
        embedding=("model.embed_tokens.weight", "token_embd.weight"),
        layer=(
            ("model.layers.#.input_layernorm.weight", "blk.#.attn_norm.weight", "H"),
            ("model.layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight", "HH"),
            ("model.layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight", "KH"),
            ("model.layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight", "KH"),
            ("model.layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight", "HH"),
            ("model.layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight", "H"),
            ("model.layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight", "FH"),
            ("model.layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight", "FH"),
            ("model.layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight", "HF"),
        ),
        norm=(("model.norm.weight", "output_norm.weight", "H"),),
    ),
    "falcon": _Names(
        embedding=("transformer.word_embeddings.weight", "token_embd.weight"),
        layer=(
            ("transformer.h.#.input_layernorm.weight", "blk.#.attn_norm.weight", "H"),
            ("transformer.h.#.input_layernorm.bias", "blk.#.attn_norm.bias", "H"),
            ("transformer.h.#.self_attention.query_key_value.weight", "blk.#.attn_qkv.weight", "QH"),
            ("transformer.h.#.self_attention.dense.weight", "blk.#.attn_output.weight", "HH"),
            ("transformer.h.#.mlp.dense_h_to_4h.weight", "blk.#.ffn_up.weight", "FH"),
            ("transformer.h.#.mlp.dense_4h_to_h.weight", "blk.#.ffn_down.weight", "HF"),
        ),
        norm=(
            ("transformer.ln_f.weight", "output_norm.weight", "H"),
            ("transformer.ln_f.bias", "output_norm.bias", "H"),
        ),
    ),
    "mpt": _Names(
        embedding=("transformer.wte.weight", "token_embd.weight"),
        layer=(
            ("transformer.blocks.#.norm_1.weight", "blk.#.attn_norm.weight", "H"),
            ("transformer.blocks.#.attn.Wqkv.weight", "blk.#.attn_qkv.weight", "QH"),
            ("transformer.blocks.#.attn.out_proj.weight", "blk.#.attn_output.weight", "HH"),
            ("transformer.blocks.#.norm_2.weight", "blk.#.ffn_norm.weight", "H"),
            ("transformer.blocks.#.ffn.up_proj.weight", "blk.#.ffn_up.weight", "FH"),
            ("transformer.blocks.#.ffn.down_proj.weight", "blk.#.ffn_down.weight", "HF"),
        ),
        norm=(("transformer.norm_f.weight", "output_norm.weight", "H"),),
    ),
}


def tensors_of(shape: Shape) -> list[Tensor]:
    """Return a model's tensors in the order of their use."""
    return list(_tensors(shape, _NAMES[shape.architecture]))


def _tensors(shape: Shape, names: _Names) -> Iterator[Tensor]:
    vocabulary = (shape.vocab_size, shape.hidden_size)
    yield Tensor(*names.embedding, vocabulary, "vocabulary")
    for layer in range(shape.num_hidden_layers):
        for name, gguf, size in names.layer:
            yield _tensor(shape, name.replace("#", str(layer)), gguf.replace("#", str(layer)), size)
    for name, gguf, size in names.norm:
        yield _tensor(shape, name, gguf, size)
    if not shape.tied:
        yield Tensor(*names.output, vocabulary, "vocabulary")


def _tensor(shape: Shape, name: str, gguf: str, size: str) -> Tensor:
    dimensions = _dimensions(shape)
    kind: Kind = "matrix" if len(size) > 1 else "shift" if name.endswith("bias") else "scale"
    return Tensor(name, gguf, tuple(dimensions[letter] for letter in size), kind)


def _dimensions(shape: Shape) -> dict[str, int]:
    """Return what the letters stand for: hidden, keys, feed-forward, and queries, keys and values in one."""
    return {
        "H": shape.hidden_size,
        "K": shape.kv_size,
        "F": shape.intermediate_size,
        "Q": shape.hidden_size + 2 * shape.kv_size,
    }

"""A model as one GGUF file, for llama.cpp, written a tensor at a time."""

from pathlib import Path
from typing import Any

import numpy as np

from loadgen.launch.weights.hub import ALIBI_BIAS_MAX, NORM_EPSILON
from loadgen.launch.weights.recipe import Recipe
from loadgen.launch.weights.tensors import Tensor
from loadgen.launch.weights.tokenizer import BEGIN, END, UNKNOWN, Vocabulary
from loadgen.models.shape import BYTES, Dtype, Shape


def write_gguf(path: Path, recipe: Recipe) -> None:
    """Write a model whole: shape, tokenizer, template, weights."""
    import gguf

    kinds = {
        "float32": (gguf.LlamaFileType.ALL_F32, gguf.GGMLQuantizationType.F32),
        "float16": (gguf.LlamaFileType.MOSTLY_F16, gguf.GGMLQuantizationType.F16),
        "bfloat16": (gguf.LlamaFileType.MOSTLY_BF16, gguf.GGMLQuantizationType.BF16),
    }
    writer = gguf.GGUFWriter(path, recipe.shape.architecture)
    writer.add_name(recipe.name)
    writer.add_file_type(kinds[recipe.dtype][0])
    _add_shape(writer, recipe.shape)
    _add_vocabulary(writer, recipe.vocabulary)
    writer.add_chat_template(recipe.template)
    for tensor in recipe.tensors:
        dtype = _dtype_of(tensor, recipe.dtype)
        bits = np.dtype(f"u{BYTES[dtype]}")
        writer.add_tensor_info(
            tensor.gguf, tensor.size, bits, tensor.elements * bits.itemsize, raw_dtype=kinds[dtype][1]
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in recipe.tensors:
        writer.write_tensor_data(recipe.values(tensor, _dtype_of(tensor, recipe.dtype)))
    writer.close()


def _dtype_of(tensor: Tensor, dtype: Dtype) -> Dtype:
    """Return the type in which llama.cpp takes a tensor of a model: its norms always as 32-bit floats."""
    return "float32" if tensor.kind in {"scale", "shift"} else dtype


def _add_shape(writer: Any, shape: Shape) -> None:  # noqa: ANN401 gguf has no types
    writer.add_vocab_size(shape.vocab_size)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_block_count(shape.num_hidden_layers)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_head_count(shape.num_attention_heads)
    writer.add_head_count_kv(shape.num_key_value_heads)
    if shape.architecture == "llama":
        writer.add_layer_norm_rms_eps(NORM_EPSILON)
    else:
        writer.add_layer_norm_eps(NORM_EPSILON)
    if shape.architecture == "mpt":
        writer.add_max_alibi_bias(float(ALIBI_BIAS_MAX))
    else:
        writer.add_rope_dimension_count(shape.head_size)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:  # noqa: ANN401
    import gguf

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary.tokens)
    kinds = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    writer.add_token_types([kinds[token not in vocabulary.special] for token in vocabulary.tokens])
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_pad_token_id(END)
    writer.add_add_bos_token(False)  # noqa: FBT003 gguf's signature; where a template wants it, it says so itself

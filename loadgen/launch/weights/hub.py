"""A folder as the Hub has it, without its weights: configuration, tokenizer, template."""

import json
from pathlib import Path
from typing import Any

from loadgen.launch.weights.recipe import Recipe
from loadgen.launch.weights.tokenizer import BEGIN, END, SPECIAL, UNKNOWN
from loadgen.models.shape import Shape

NORM_EPSILON = 1e-5
ALIBI_BIAS_MAX = 8


def write_folder(folder: Path, recipe: Recipe) -> None:
    """Write everything that transformers, and what builds on it, reads beside the weights."""
    shape = recipe.shape
    begin_end = {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": END}
    config = _ARCHITECTURES[shape.architecture](shape) | {
        "vocab_size": shape.vocab_size,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": recipe.dtype,
        "use_cache": True,
        **begin_end,
    }
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"do_sample": False, **begin_end})
    _write(folder / "tokenizer.json", recipe.vocabulary.tokenizer | _BEGINNINGS.get(shape.architecture, {}))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[BEGIN],
            "eos_token": SPECIAL[END],
            "pad_token": SPECIAL[END],
            "unk_token": SPECIAL[UNKNOWN],
            "model_max_length": shape.context,
            "clean_up_tokenization_spaces": False,
            "chat_template": recipe.template,  # where TGI looks for it, and all did before there was a file of its own
        },
    )
    (folder / "chat_template.jinja").write_text(recipe.template, encoding="utf-8")


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


def _begun(token: str, number: int) -> dict[str, Any]:
    """Return what has a tokenizer put a token in front of a prompt; in front of a chat the template has it."""
    begin, whole = {"SpecialToken": {"id": token, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    special = {token: {"id": token, "ids": [number], "tokens": [token]}}
    template = {"single": [begin, whole], "pair": [begin, whole, second], "special_tokens": special}
    return {"post_processor": {"type": "TemplateProcessing", **template}}


_BEGINNINGS = {"llama": _begun(SPECIAL[BEGIN], BEGIN)}
"""By architecture; those of MPT and Falcon put nothing in front."""


def _llama(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.context,
        "hidden_act": "silu",
        "rms_norm_eps": NORM_EPSILON,
        "rope_theta": 10000.0,
    }


def _falcon(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "ffn_hidden_size": shape.intermediate_size,
        "max_position_embeddings": shape.context,
        "layer_norm_epsilon": NORM_EPSILON,
        "rope_theta": 10000.0,
        "multi_query": True,
        "parallel_attn": True,
        "new_decoder_architecture": False,
        "alibi": False,
        "bias": False,
    }


def _mpt(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["MptForCausalLM"],
        "model_type": "mpt",
        "d_model": shape.hidden_size,
        "n_layers": shape.num_hidden_layers,
        "n_heads": shape.num_attention_heads,
        "expansion_ratio": shape.intermediate_size // shape.hidden_size,
        "max_seq_len": shape.context,
        "layer_norm_epsilon": NORM_EPSILON,
        "learned_pos_emb": False,
        "no_bias": True,
        "norm_type": "low_precision_layernorm",
        "attn_config": {"alibi": True, "alibi_bias_max": ALIBI_BIAS_MAX, "clip_qkv": None, "qk_ln": False},
    }


_ARCHITECTURES = {"llama": _llama, "falcon": _falcon, "mpt": _mpt}

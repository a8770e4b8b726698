"""A Llama-shaped model of seeded random weights: generated locally, it makes a real engine work without a download.

It computes like a model of its size and says nothing of sense. Its output rows for special tokens and for bytes outside
printable ASCII are zero, so that greedy decoding never chooses them: answers are plain text that ends only at
``max_tokens``, one token a chunk.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadgen.workload.datasets import SAMPLES, load

SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
UNKNOWN, BEGIN, END = 0, 1, 2
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of the model; 6 M parameters by default, some 2 ms a token on one core."""

    vocabulary: int = 2048
    hidden: int = 256
    layers: int = 6
    feed_forward: int = 704
    heads: int = 8
    kv_heads: int = 2
    context: int = 8192
    seed: int = 0


DEFAULT = Shape()


def cached_model(shape: Shape = DEFAULT) -> Path:
    """Return the GGUF file of a shape, made on first use; ``$XDG_CACHE_HOME/loadgen`` keeps it."""
    identity = f"{asdict(shape)} {hashlib.sha256(SAMPLES.read_bytes() + Path(__file__).read_bytes()).hexdigest()}"
    name = f"random-llama-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.gguf"
    path = _cache_folder() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / name
            write_model(made, shape)
            made.replace(path)
    return path


def write_model(path: Path, shape: Shape = DEFAULT) -> None:
    """Write the model as GGUF, 32-bit floats."""
    import gguf

    tokens, merges = _tokenizer(shape.vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random-llama")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    kinds = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    writer.add_token_types([kinds[token not in SPECIAL] for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_pad_token_id(END)
    writer.add_add_bos_token(False)  # noqa: FBT003 gguf's signature
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, weights in _tensors(shape, tokens):
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tokenizer(vocabulary: int) -> tuple[list[str], list[str]]:
    """Train a byte-level BPE on the project's own prompts; return its tokens in order and its merges."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([p.text for p in load("samples").prompts], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


def _tensors(shape: Shape, tokens: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield llama's tensors by GGUF name."""
    random = np.random.default_rng(shape.seed)
    kv = shape.hidden // shape.heads * shape.kv_heads

    def weights(rows: int, columns: int) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5)).astype(np.float32)

    ones = np.ones(shape.hidden, dtype=np.float32)
    yield "token_embd.weight", weights(len(tokens), shape.hidden)
    for layer in range(shape.layers):
        yield from _block(f"blk.{layer}.", shape, kv, weights)
    yield "output_norm.weight", ones
    output = weights(len(tokens), shape.hidden)
    output[[index for index, token in enumerate(tokens) if not _is_plain(token)]] = 0
    yield "output.weight", output


def _block(
    prefix: str, shape: Shape, kv: int, weights: Callable[[int, int], NDArray[np.float32]]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    ones = np.ones(shape.hidden, dtype=np.float32)
    yield prefix + "attn_norm.weight", ones
    yield prefix + "attn_q.weight", weights(shape.hidden, shape.hidden)
    yield prefix + "attn_k.weight", weights(kv, shape.hidden)
    yield prefix + "attn_v.weight", weights(kv, shape.hidden)
    yield prefix + "attn_output.weight", weights(shape.hidden, shape.hidden)
    yield prefix + "ffn_norm.weight", ones
    yield prefix + "ffn_gate.weight", weights(shape.feed_forward, shape.hidden)
    yield prefix + "ffn_up.weight", weights(shape.feed_forward, shape.hidden)
    yield prefix + "ffn_down.weight", weights(shape.hidden, shape.feed_forward)


def _is_plain(token: str) -> bool:
    """Whether a token of the byte-level alphabet is printable ASCII or spaces (written as G with a dot above)."""
    return token not in SPECIAL and all("!" <= c <= "~" or c == "\u0120" for c in token)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loadgen"

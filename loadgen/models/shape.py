"""The shape of a model: what decides how fast it is, trained or not."""

from dataclasses import dataclass
from typing import Literal

Architecture = Literal["llama", "falcon", "mpt"]
Dtype = Literal["float16", "bfloat16", "float32"]

BYTES: dict[Dtype, int] = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder-only transformer. Names are those of the Hub's ``config.json`` where it has them."""

    architecture: Architecture = "llama"
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    context: int
    tied: bool = False
    """Whether the output layer is the embedding."""

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_size(self) -> int:
        """Width of the keys, and of the values, of one token in one layer."""
        return self.num_key_value_heads * self.head_size

    @property
    def parameters(self) -> int:
        """Number of weights, norms included."""
        attention = 2 * self.hidden_size * self.hidden_size + 2 * self.hidden_size * self.kv_size
        matrices = 3 if self.architecture == "llama" else 2
        norms = 1 if self.architecture == "falcon" else 2
        per_norm = 2 * self.hidden_size if self.architecture == "falcon" else self.hidden_size  # falcon's have a bias
        layer = attention + matrices * self.hidden_size * self.intermediate_size + norms * per_norm
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied else 2)
        return embeddings + self.num_hidden_layers * layer + per_norm

    def weight_bytes(self, dtype: Dtype) -> int:
        """Size of the weights."""
        return self.parameters * BYTES[dtype]

    def kv_bytes(self, dtype: Dtype) -> int:
        """Size in the KV cache of one token."""
        return 2 * self.num_hidden_layers * self.kv_size * BYTES[dtype]

"""A byte-level BPE of any number of tokens, trained on the project's own prompts and filled up with made-up words.

It cuts text as finely as those prompts taught it, some 3 characters a token, and can say every token in plain ASCII but
those that are never said.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from string import ascii_lowercase
from typing import Any

from loadgen.workload.datasets import load

SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
UNKNOWN, BEGIN, END = 0, 1, 2

_IN_TEMPLATE = re.compile(r"<\|\w+\|>")
"""How a template writes special tokens of its own."""

# A blank is written as G with a dot above. Brackets, braces and the like are left out: what begins with them, servers
# may take for the beginning of a tool call, of reasoning or of a stop string, and hold it back.
_PLAIN = re.compile("\u0120?[A-Za-z0-9.,;:!?'()/+*=-]+")

LEAST = 300
"""Tokens of the smallest vocabulary that is made: 256 bytes, special tokens, and enough that are plain."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model."""

    tokenizer: dict[str, Any]
    """As ``tokenizer.json`` has it."""
    special: tuple[str, ...]
    """Special tokens, which are the first."""

    @property
    def tokens(self) -> list[str]:
        """All of them, in the order of their numbers, in the byte-level alphabet."""
        return list(self.tokenizer["model"]["vocab"])

    @property
    def merges(self) -> list[str]:
        """Pairs of tokens that become one, in the order in which they do."""
        return list(self.tokenizer["model"]["merges"])

    @property
    def quiet(self) -> list[int]:
        """Numbers of the tokens that are never to be said: special ones, and those that alone are no plain text.

        Then an answer does not end before its ``max_tokens``, and each of its tokens is some text at once.
        """
        return [i for i, token in enumerate(self.tokens) if token in self.special or not _PLAIN.fullmatch(token)]


def vocabulary_of(size: int, template: str) -> Vocabulary:
    """Return a vocabulary of exactly so many tokens, in which a template's special tokens are special."""
    special = tuple(dict.fromkeys((*SPECIAL, *_IN_TEMPLATE.findall(template))))
    trained = _trained(size, special)
    vocabulary = trained["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += islice(_made_up(vocabulary), size - len(tokens))
    trained["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    # Pairs as one string are what every version of the library reads.
    trained["model"]["merges"] = [" ".join(merge) for merge in trained["model"]["merges"]]
    return Vocabulary(trained, special)


def _trained(size: int, special: tuple[str, ...]) -> dict[str, Any]:
    """Return a tokenizer of so many tokens, or of fewer where the prompts do not teach more."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([p.text for p in load("samples").prompts], trainer)
    described: dict[str, Any] = json.loads(tokenizer.to_str())
    return described


def _made_up(taken: dict[str, int]) -> Iterator[str]:
    """Yield words, a blank before each, that are no tokens yet. No merge leads to them, so no text is cut into them."""
    for length in (3, 4, 5):
        for letters in product(ascii_lowercase, repeat=length):
            word = "\u0120" + "".join(letters)
            if word not in taken:
                yield word

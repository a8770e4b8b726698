"""A tokenizer for peers that will not run without one: every word is a token, and the truth server says "word"."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from benchmarks.peers.environment import BENCH
from benchmarks.peers.peer import PROMPT

_UNKNOWN, _END = "[UNK]", "[EOS]"
_CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": _UNKNOWN, "eos_token": _END}


def folder() -> Path:
    """Return its directory, in the layout of Hugging Face; made if there is none."""
    made = BENCH / "tokenizer"
    if not (made / "tokenizer_config.json").exists():
        made.mkdir(parents=True, exist_ok=True)
        words = dict.fromkeys([_UNKNOWN, _END, "word", *PROMPT.split()])
        tokenizer = Tokenizer(WordLevel({word: at for at, word in enumerate(words)}, unk_token=_UNKNOWN))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        tokenizer.save(str(made / "tokenizer.json"))
        (made / "tokenizer_config.json").write_text(json.dumps(_CONFIG))
    return made

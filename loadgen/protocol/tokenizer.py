"""A local tokenizer, for servers that do not count."""

from pathlib import Path

from loadgen.protocol.records import TokenCounter


def open_tokenizer(name: str) -> TokenCounter:
    """Return a counter of a text's tokens, special ones not added; raises ValueError for anything else."""
    from tokenizers import Tokenizer

    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 the library raises bare Exception
        raise ValueError(f"{file}: not a tokenizer.json ({error}).") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)

"""Text on terminals: the characters that an encoding has, how wide a text is, and where a line may be broken."""

import codecs
import io
import os
import re
import sys
from typing import TextIO
from unicodedata import combining, east_asian_width

_WORD = re.compile(r"(?:`[^`]{1,80}`|\S)+")
"""What is not broken between two lines. A command between backticks is one word, as users copy it."""

_PLAIN = {"\N{EN DASH}": "-", "\N{HORIZONTAL ELLIPSIS}": "..."}
"""What stands for characters of ours in an encoding that does not have them."""

_HANDLER = "loadgen-plain"
"""Error handler of encodings: such a character is replaced, any other one is written as its Python escape."""


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("unicode_escape").decode() for c in missing), error.end


codecs.register_error(_HANDLER, _in_plain_characters)


def accept_every_character() -> None:
    """Let standard output and standard error write any text, whatever their encoding is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors=_HANDLER)


def in_encoding(text: str, encoding: str) -> str:
    """Return a text as a stream of an encoding will show it, so that its width is known before it is written."""
    return text.encode(encoding, _HANDLER).decode(encoding)


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: wide characters, as of East Asian scripts, take two."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(c) in "FW" else not combining(c) for c in text)


def terminal_width(stream: TextIO | None) -> int | None:
    """Return how many columns a stream's terminal has; None if it is not a terminal, or does not report its size."""
    try:
        return None if stream is None else os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # not a terminal; without a file, or closed
        return None


def wrapped(text: str, width: int, indent: int) -> str:
    """Return a line of text as lines of at most ``width`` columns, broken between words.

    The first line keeps the spaces that the text begins with, the others begin with ``indent`` spaces. A longer word,
    such as a path, is not broken: it can be copied.
    """
    lines, line, at = [], "", 0
    for word in _WORD.finditer(text):
        gap = text[at : word.start()]
        if line.strip() and columns(line) + len(gap) + columns(word[0]) > width:
            lines.append(line)
            line, gap = " " * indent, ""
        line += gap + word[0]
        at = word.end()
    return "\n".join([*lines, line])

"""Prompts, and reading them from a file in LIMA's schema."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MULTI_TURN = "multi_turn"
"""LIMA's label of its 30 dialogues, rows 1000 to 1029: not among the 1,000 that single prompts are drawn from."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The first user turn of one row of a data set."""

    row: int
    text: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """All prompts of a data set, in its order, with the name that reports show."""

    name: str
    prompts: tuple[Prompt, ...]

    @property
    def single_turn(self) -> tuple[Prompt, ...]:
        """The rows that a sample is drawn from: for LIMA rows 0 to 999."""
        return tuple(p for p in self.prompts if p.source != MULTI_TURN)


def content_hash(prompts: Sequence[Prompt]) -> str:
    """Return the SHA-256 of the prompts' texts, in order, as a JSON list in UTF-8."""
    texts = json.dumps([p.text for p in prompts], ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(texts.encode()).hexdigest()


def read_jsonl(path: Path, name: str) -> Dataset:
    """Read a file with one JSON object a line.

    An object is ``{"conversations": [user, assistant, ...], "source": ...}``, as in LIMA, or ``{"prompt": ...}``.
    Raises OSError if the file cannot be read, and ValueError, which names the line, if a line is not valid.
    """
    lines = path.read_bytes().splitlines()
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise ValueError(f"{path} is empty; it needs one JSON object a line.")
    prompts = (
        prompt_of(_decoded(line, path, number), row, f"{path}, line {number}")
        for row, (number, line) in enumerate(numbered)
    )
    return Dataset(name, tuple(prompts))


def prompts_of(rows: Iterable[dict[str, Any]], where: str) -> tuple[Prompt, ...]:
    """Return the prompts of rows in LIMA's schema.

    Raises ValueError for a row without a user turn; its text begins with ``where``, the name of the data set.
    """
    return tuple(prompt_of(row, index, f"{where}, row {index}") for index, row in enumerate(rows))


def prompt_of(row: dict[str, Any], index: int, where: str) -> Prompt:
    """Return the first user turn of a row; raises ValueError, whose text begins with ``where``, if there is none."""
    turns = row.get("conversations")
    text = turns[0] if isinstance(turns, list) and turns else row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'{where}: needs "conversations": ["...", ...] or "prompt": "...".')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: unpaired surrogate; it cannot be encoded as UTF-8.") from None
    source = row.get("source")
    return Prompt(index, text, source if isinstance(source, str) else "")


def _decoded(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ValueError(f"{path}, line {number}: not JSON ({error}).") from None
    if not isinstance(row, dict):
        text = f"{path}, line {number}: a JSON object is needed, got {type(row).__name__}."
        raise ValueError(text)  # noqa: TRY004 the contents of the file are wrong, not an argument's type
    return row

"""Prompts, and reading them from a file in LIMA's schema."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadgen.errors import UsageError

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
    """Read ``{"conversations": [user, assistant, ...], "source": ...}`` (LIMA) or ``{"prompt": ...}``, one a line.

    Raises UsageError naming the line for anything else.
    """
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        raise UsageError(
            f"--dataset: {path} does not exist. Name a JSONL file, or one of the data sets 'lima' and 'samples'."
        ) from None
    except OSError as error:
        raise UsageError(f"--dataset: cannot read {path}: {error.strerror}.") from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise UsageError(f"--dataset: {path} is empty; it needs one JSON object a line.")
    prompts = (
        prompt_of(_decoded(line, path, number), row, f"{path}, line {number}")
        for row, (number, line) in enumerate(numbered)
    )
    return Dataset(name, tuple(prompts))


def prompts_of(rows: Iterable[dict[str, Any]], where: str) -> tuple[Prompt, ...]:
    """Turn rows of LIMA's schema into prompts; ``where`` names the data set in errors."""
    return tuple(prompt_of(row, index, f"{where}, row {index}") for index, row in enumerate(rows))


def prompt_of(row: dict[str, Any], index: int, where: str) -> Prompt:
    """Take the first user turn of a row; raises UsageError naming ``where`` if there is none."""
    turns = row.get("conversations")
    text = turns[0] if isinstance(turns, list) and turns else row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f'--dataset: {where}: needs "conversations": ["...", ...] or "prompt": "...".')
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"--dataset: {where}: unpaired surrogate; it cannot be encoded as UTF-8.") from None
    source = row.get("source")
    return Prompt(index, text, source if isinstance(source, str) else "")


def _decoded(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise UsageError(f"--dataset: {path}, line {number}: not JSON ({error}).") from None
    if not isinstance(row, dict):
        raise UsageError(f"--dataset: {path}, line {number}: a JSON object is needed, got {type(row).__name__}.")
    return row

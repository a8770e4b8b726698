"""Prompts, and reading them from a file: rows in LIMA's schema, rows with a prompt, and rows with a chat's messages."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadgen.request import Message
from loadgen.workload.messages_row import check_encodable, prompt_fields, prompt_messages
from loadgen.workload.rows import read_rows

MULTI_TURN = "multi_turn"
"""LIMA's label of its 30 dialogues, rows 1000 to 1029: not among the 1,000 that single prompts are drawn from."""


MESSAGES = "messages"
"""Key of a row that is the body of a chat completion: its messages, and other fields of the request."""

_OF_RUN = ("model", "stream", "stream_options", "n")
"""Fields of such a row that are ignored: they are the same for all requests of a run."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one row of a data set asks: its first user turn, or the messages of a chat."""

    row: int
    text: str
    """All of it; the contents of several messages one per line."""
    source: str = ""
    messages: tuple[Message, ...] = ()
    """Empty: the text as one user message."""
    fields: dict[str, Any] = field(default_factory=dict, hash=False)
    """Further fields of the request's body, which override those of the run."""

    @property
    def input(self) -> tuple[Message, ...]:
        """The messages of a chat."""
        return self.messages or (Message("user", self.text),)


@dataclass(frozen=True, slots=True)
class Dataset:
    """All prompts of a data set, in its order, with the name that reports show."""

    name: str
    prompts: tuple[Prompt, ...]
    ignored: dict[str, int] = field(default_factory=dict)
    """How many rows have a field that is ignored, by its name."""
    targets: int = 0
    """Rows whose trailing assistant messages are left out."""

    @property
    def single_turn(self) -> tuple[Prompt, ...]:
        """The rows that a sample is drawn from: for LIMA rows 0 to 999."""
        return tuple(p for p in self.prompts if p.source != MULTI_TURN)


def content_hash(prompts: Sequence[Prompt]) -> str:
    """Return the SHA-256 of the prompts, in order, as a JSON list in UTF-8.

    A prompt is its text; one of a row with messages is an object with them and the row's other fields.
    """
    contents = [
        {MESSAGES: [[m.role, m.content] for m in p.messages], **p.fields} if p.messages else p.text for p in prompts
    ]
    texts = json.dumps(contents, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(texts.encode()).hexdigest()


def read_file(path: Path, name: str) -> Dataset:
    """Read the prompts of a file.

    A row is ``{"conversations": [user, assistant, ...], "source": ...}``, as in LIMA, ``{"prompt": ...}``, or
    ``{"messages": [...]}`` with further fields of a chat completion's body. Raises OSError if the file cannot be read,
    and ValueError, which names the line or item, if a row is not valid.
    """
    rows = read_rows(path)
    prompts = tuple(prompt_of(row.value, index, row.where) for index, row in enumerate(rows))
    chats = [row.value for row in rows if MESSAGES in row.value]
    ignored = {name: count for name in _OF_RUN if (count := sum(name in row for row in chats))}
    read = [(row.value, prompt.messages) for row, prompt in zip(rows, prompts, strict=True)]
    targets = sum(len(value[MESSAGES]) > len(messages) for value, messages in read if messages)
    return Dataset(name, prompts, ignored, targets)


def prompts_of(rows: Iterable[dict[str, Any]], where: str) -> tuple[Prompt, ...]:
    """Return the prompts of rows in LIMA's schema.

    Raises ValueError for a row without a user turn; its text begins with ``where``, the name of the data set.
    """
    return tuple(prompt_of(row, index, f"{where}, row {index}") for index, row in enumerate(rows))


def prompt_of(row: dict[str, Any], index: int, where: str) -> Prompt:
    """Return the prompt of a row; raises ValueError, whose text begins with ``where``, if the row has none."""
    if MESSAGES in row:
        messages = prompt_messages(row[MESSAGES], where)
        given = {name: value for name, value in row.items() if name not in {MESSAGES, *_OF_RUN}}
        return Prompt(index, "\n".join(m.content for m in messages), "", messages, prompt_fields(given, where))
    turns = row.get("conversations")
    text = turns[0] if isinstance(turns, list) and turns else row.get("prompt")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f'{where}: needs "conversations": ["...", ...], "prompt": "..." or "messages": [...].')
    check_encodable(text, where)
    source = row.get("source")
    return Prompt(index, text, source if isinstance(source, str) else "")

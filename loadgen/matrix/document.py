"""What the matrix says, drawn as Markdown, as a page and on a terminal: these types know nothing of how."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loadgen.results.pictures.drawing import Picture


class Words(NamedTuple):
    """A few words."""

    text: str
    notes: tuple[str, ...] = ()
    """Letters of the footnotes to them."""
    verdict: str = ""
    """Which verdict they tell of, if they do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in one place of a table."""

    text: str
    """A figure, or a word, or a dash."""
    notes: tuple[str, ...] = ()
    """Letters of the footnotes to it."""
    interval: str = ""
    where: str = ""
    """At which load, where that is part of the answer."""
    best: bool = False
    missing: bool = False
    """Whether the text says why there is no figure."""
    marks: tuple[Words, ...] = ()
    """Without which the figure must not be read."""
    beside: tuple[Words, ...] = ()
    """What it may be compared with; a terminal has no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the first columns say what a row is of."""

    key: str
    """One lower-case word, of no other table."""
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    labels: int = 1
    """How many columns say what a row is of."""
    numbers: tuple[int, ...] = ()
    """Columns of plain numbers, to be read from row to row; none in the tables that are read along a row."""
    notes: tuple[str, ...] = ()
    notes_beside: tuple[str, ...] = ()
    """On what stands beside the figures."""
    footnotes: tuple[str, ...] = ()
    """In the order of their letters."""


class Finding(NamedTuple):
    """What was found by looking at all engines."""

    text: str
    fine: bool
    """Whether nothing is to be done about it."""


class Reports(NamedTuple):
    """Where the details of a model are."""

    model: str
    engines: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    """For each engine texts and addresses; these are relative to the document and percent-encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All of it."""

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    """On all tables."""
    pictures: tuple[Picture, ...] = ()
    findings: tuple[Finding, ...] = ()
    reports: tuple[Reports, ...] = ()


class Footnotes:
    """Those of one table; what was said before keeps its letter."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def letter(self, text: str) -> str:
        """Return the letter of a footnote."""
        if text not in self._texts:
            self._texts.append(text)
        return letter(self._texts.index(text))

    @property
    def texts(self) -> tuple[str, ...]:
        """The footnotes in the order of their letters."""
        return tuple(self._texts)


def letter(index: int) -> str:
    """Return a, b, ... z, aa, ab, ..."""
    before, last = divmod(index, 26)
    return (letter(before - 1) if before else "") + chr(ord("a") + last)


def listed(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))

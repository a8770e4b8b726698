"""The document on a terminal: figures, intervals and marks, as many columns beside each other as there is room for."""

from collections.abc import Iterator, Sequence
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from loadgen.matrix.document import Document, Entry, Table, Words, letter
from loadgen.printable import escaped

_STYLES = {"WARN": "yellow", "INVALID": "red", "INCONCLUSIVE": "red"}
_WIDEST = 26
"""Of a column: longer words are broken."""
_BETWEEN = 2
"""What stands between two columns."""


def show(document: Document, console: Console | None = None) -> None:
    """Print the document, less what figures may be compared with and where the details are."""
    console = console or Console()
    _say(console, document.title, "bold")
    for note in document.notes:
        _say(console, note, "dim")
    if document.findings:
        console.print()
    for finding in document.findings:
        _say(console, finding.text, "" if finding.fine else "yellow")
    for table in document.tables:
        for part in _parts(table, console.width):
            console.print()
            console.print(_drawn(table, part))
        _say(console, " ".join(table.notes), "dim")
        for name, text in _footnotes(table):
            _say(console, f"({name}) {text}", "dim")


def _say(console: Console, text: str, style: str) -> None:
    console.print(_text(text, style))


def _text(text: str, style: str = "") -> Text:
    """Return text that is neither markup, nor control characters, nor names of emoji."""
    return Text(escaped(text), style)


def _parts(table: Table, width: int) -> Iterator[Sequence[int]]:
    """Return the columns in groups that fit beside the names of the rows."""
    part: list[int] = []
    free = room = width - _label_width(table) - _BETWEEN
    for i in range(table.labels, len(table.columns)):
        wanted = _width(table, i) + _BETWEEN
        if part and wanted > free:
            yield part
            part, free = [], room
        part.append(i)
        free -= wanted
    yield part


def _width(table: Table, index: int) -> int:
    """Return the width of a column that breaks its heading between words, and its cells not at all."""
    lines = [line for row in table.rows for line in _cell(table, row[index]).plain.splitlines()]
    return min(_WIDEST, max(map(len, [*escaped(table.columns[index]).split(), *lines]), default=0))


def _label_width(table: Table) -> int:
    names = [line for row in table.rows for line in _names(table, row, None)]
    return min(_WIDEST, max(map(len, [*escaped(table.columns[table.labels - 1]).split(), *names])))


def _drawn(table: Table, part: Sequence[int]) -> RichTable:
    drawn = RichTable(
        title=_text(table.title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    drawn.add_column(_text(table.columns[table.labels - 1]), width=_label_width(table), overflow="fold")
    for i in part:
        justify: Literal["left", "right"] = "right" if i in table.numbers else "left"
        drawn.add_column(_text(table.columns[i]), justify=justify, width=_width(table, i), overflow="fold")
    before = None
    for row in table.rows:
        *above, name = _names(table, row, before)
        for line in above:
            drawn.add_row(_text(line))
        drawn.add_row(_text(name), *(_cell(table, row[i]) for i in part))
        before = row
    return drawn


def _names(table: Table, row: Sequence[Entry], before: Sequence[Entry] | None) -> list[str]:
    """Return what a row is of, a line for each label; all but the last only where they change."""
    names = [f"{'  ' * i}{escaped(entry.text)}" for i, entry in enumerate(row[: table.labels])]
    same = before is not None and [e.text for e in before[: table.labels - 1]] == [
        e.text for e in row[: table.labels - 1]
    ]
    return names[-1:] if same else names


def _cell(table: Table, entry: Entry) -> Text:
    lines = []
    if entry.text:
        lines.append(_lettered(Words(entry.text, entry.notes), "bold" if entry.best else ""))
    if not table.numbers:
        lines += [_text(text, "dim") for text in (entry.interval, entry.where) if text]
    lines += [_lettered(words, _STYLES.get(words.verdict, "")) for words in entry.marks]
    return Text("\n").join(lines)


def _lettered(words: Words, style: str) -> Text:
    text = _text(words.text, style)
    return text.append(f" ({','.join(words.notes)})", "dim") if words.notes else text


def _footnotes(table: Table) -> list[tuple[str, str]]:
    """Return the footnotes to what a terminal shows."""
    shown = {
        name
        for row in table.rows
        for entry in row
        for notes in (entry.notes, *(words.notes for words in entry.marks))
        for name in notes
    }
    return [(name, text) for i, text in enumerate(table.footnotes) if (name := letter(i)) in shown]

"""The report on a terminal: headline, answer, latencies, and what the verdict objects to.

On a terminal text is broken between words, tables between columns, and figures never. In a file or a pipe nothing has
to be broken, so that each message is on one line.
"""

import errno
import sys
from typing import Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from loadgen.measure.check import CheckResult, described, objections
from loadgen.measure.verdict import Verdict
from loadgen.printable import escaped
from loadgen.results.counts import causes_of
from loadgen.results.headline import headline
from loadgen.results.summary_schema import Summary
from loadgen.results.table import Table
from loadgen.results.tables import answers, details
from loadgen.results.text import subject_of
from loadgen.terminal_text import columns, in_encoding, wrapped

_IN_A_FILE = 160
"""Columns."""

_COLOURS = {Verdict.VALID: "green", Verdict.WARN: "yellow", Verdict.INVALID: "red", Verdict.INCONCLUSIVE: "red"}

_LEFT_TO_THE_LONG_ONE = ("Requests", "Engine")

_ASCII_HEAD = box.Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""``SIMPLE_HEAD`` where the encoding has no lines; rich would draw a frame, which takes more columns."""

_BEFORE_COLUMN, _AROUND_TABLE = 3, 1
"""Columns of a terminal that the box takes: for each column of the table, and once."""

_LONGEST_WORD = 40
"""Of a column of words: longer words, such as paths, are broken where there is no room."""


def show(summary: Summary, stream: TextIO | None = None) -> None:
    """Print a short report to a stream, standard output if it is None; raises OSError if the stream is closed."""
    console = _console(_opened(stream))
    _print(console, subject_of(summary).title, "bold")
    _show_headline(summary, console)
    for table in [*answers(summary), *details(summary)]:
        if not table.title.startswith(_LEFT_TO_THE_LONG_ONE):
            show_table(table, console)
    _show_verdict(summary, console)
    console.file.flush()  # whoever calls has to know whether it was taken


def show_folder(folder: str, stream: TextIO | None = None) -> None:
    """Print where the long report is, on one line that can be copied; raises OSError if the stream is closed."""
    console = _console(_opened(stream))
    console.print(_text(f"Results: {folder}", console), soft_wrap=True)
    console.file.flush()


def _opened(stream: TextIO | None) -> TextIO:
    """Return a stream, standard output for None; raises OSError if it is closed: rich would discard the report."""
    stream = sys.stdout if stream is None else stream
    if stream is None or getattr(stream, "closed", False):
        raise OSError(errno.EBADF, "standard output is closed")
    return stream


def _show_headline(summary: Summary, console: Console) -> None:
    """Print the main figure with its verdict, and what it is of."""
    found, status = headline(summary), summary.verdict.status
    console.print()
    console.print(
        _text(f"  {found.figure}", console, "bold"), Text(status.value, f"bold {_COLOURS[status]}"), sep="   "
    )
    _print(console, f"  {': '.join(filter(None, (found.interval, found.of)))}", indent=2)
    if found.figures:
        _print(console, f"  {', '.join(f'{name} {value}' for name, value in found.figures)}", indent=2)


def show_table(table: Table, console: Console | None = None) -> None:
    """Print one table: in several parts, each with the first column, where there is no room for all its columns."""
    console = console or _console()
    shown = [index for index in range(len(table.columns)) if index not in table.wide]
    layout = _Layout(table, console)
    for number, part in enumerate(layout.parts(shown)):
        console.print()
        console.print(layout.drawn(part, title="" if number else table.title))
    for line in [*_notes(table), *(table.note.split("\n") if table.note else ())]:
        _print(console, f"  {line}", "dim", indent=2)


class _Layout:
    """How wide the columns of a table are on a console."""

    def __init__(self, table: Table, console: Console) -> None:
        self._table, self._console = table, console
        self._rows = [[_shown(cell, console) for cell in row] for row in table.rows]
        self._headings = [_shown(heading, console) for heading in table.columns]

    def parts(self, shown: list[int]) -> list[list[int]]:
        """Return groups of columns that fit if possible; each has the first column and at least one other."""
        first, *others = shown
        groups: list[list[int]] = [[first]]
        for index in others:
            group = [*groups[-1], index]
            if len(group) > 2 and self._too_wide(group, [self._least(i) for i in group]) > 0:  # noqa: PLR2004
                groups.append([first, index])
            else:
                groups[-1] = group
        return groups

    def drawn(self, part: list[int], title: str) -> RichTable:
        """Return some columns as a table."""
        drawn = RichTable(
            title=_text(title, self._console) if title else None,
            title_justify="left",
            title_style="bold",
            box=_ASCII_HEAD if self._console.options.ascii_only else box.SIMPLE_HEAD,
        )
        for index, width in zip(part, self._widths(part), strict=True):
            justify: Literal["left", "right"] = "left" if index in self._table.words else "right"
            drawn.add_column(Text(self._headings[index]), justify=justify, width=width, overflow="fold")
        for row in self._rows:
            drawn.add_row(*(Text(row[index]) for index in part))
        return drawn

    def _widths(self, part: list[int]) -> list[int]:
        """Return the widths with which a part fits: headings give way first, then words, and figures last."""
        widths = [max(self._cells(i), columns(self._headings[i])) for i in part]
        for narrowest in (self._one_line, self._least, self._words):
            while self._too_wide(part, widths) > 0:
                wide = [place for place, index in enumerate(part) if widths[place] > narrowest(index)]
                if not wide:
                    break
                widths[max(wide, key=widths.__getitem__)] -= 1
        return widths

    def _too_wide(self, part: list[int], widths: list[int]) -> int:
        return sum(widths) + _BEFORE_COLUMN * len(part) + _AROUND_TABLE - self._console.width

    def _cells(self, index: int) -> int:
        return max((columns(row[index]) for row in self._rows), default=0)

    def _one_line(self, index: int) -> int:
        """Return the width that breaks no cell, but the heading between words."""
        return max(self._cells(index), _longest_word([self._headings[index]]))

    def _least(self, index: int) -> int:
        """Return the width that breaks no figure: a column of words may be broken between them."""
        return self._words(index) if index in self._table.words else self._one_line(index)

    def _words(self, index: int) -> int:
        """Return the width that breaks all cells, but only between words."""
        return _longest_word([self._headings[index], *(row[index] for row in self._rows)])


def _longest_word(texts: list[str]) -> int:
    return min(_LONGEST_WORD, max(columns(word) for text in texts for word in text.split() or [""]))


def _shown(text: str, console: Console) -> str:
    """Return text as it is shown: on one line, without control characters, in the characters that the console has."""
    return in_encoding(escaped(text), console.encoding)


def _text(text: str, console: Console, style: str = "") -> Text:
    """Return text that is neither markup, nor control characters, nor names of emoji."""
    return Text(_shown(text, console), style)


def _print(console: Console, line: str, style: str = "", *, indent: int = 0) -> None:
    """Print a line of text, on a terminal broken between words; ``indent``: where its further lines begin."""
    line = _shown(line, console)
    if console.is_terminal:
        line = wrapped(line, console.width, indent)
    console.print(Text(line, style), soft_wrap=True)


def _console(stream: TextIO | None = None) -> Console:
    """Return a console that is as wide as its terminal; in a file or a pipe nothing has to give way."""
    console = Console(file=stream)
    return console if console.is_terminal else Console(file=stream, width=_IN_A_FILE)


def _notes(table: Table) -> list[str]:
    """Return what the columns left out state in words, each once, with the rows that it is about."""
    rows_of: dict[str, list[str]] = {}
    for row in table.rows:
        for index in table.wide:
            if index in table.words and row[index]:
                for part in row[index].split("; "):
                    rows_of.setdefault(part, []).append(row[0])
    return [f"{table.columns[0]} {', '.join(rows)}: {part}" for part, rows in rows_of.items()]


def _show_verdict(summary: Summary, console: Console) -> None:
    status, requests, checks = summary.verdict.status, summary.requests, summary.verdict.checks
    console.print()
    console.print(
        f"[bold {_COLOURS[status]}]{status.value}[/]  {requests.completed} completed, {requests.failed} failed, "
        f"{requests.aborted} aborted",
        highlight=False,
    )
    for check in objections(checks):
        _print(console, f"  {_objection(check)}", indent=4)
    for label, message in causes_of(requests):
        _print(console, f"  {label}: {message}", indent=4)
    _print(console, f"  {described(checks)}.", indent=2)


def _objection(check: CheckResult) -> str:
    limit = f" (limit: {check.limit})" if check.limit else ""
    return f"{check.status.value.upper()} {check.name}: {check.value}{limit}. {check.explanation}".rstrip()

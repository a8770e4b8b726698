"""The report on a terminal: the answer, the latencies, and every check that was not plainly passed."""

from typing import Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from loadgen.measure.check import Status
from loadgen.measure.verdict import Verdict
from loadgen.printable import escaped
from loadgen.results.counts import causes_of
from loadgen.results.summary_schema import Summary
from loadgen.results.table import Table
from loadgen.results.tables import answers, details
from loadgen.results.text import subject_of

_IN_A_FILE = 160
"""Columns."""

_COLOURS = {Verdict.VALID: "green", Verdict.WARN: "yellow", Verdict.INVALID: "red", Verdict.INCONCLUSIVE: "red"}

_LEFT_TO_THE_LONG_ONE = ("Requests", "Engine")


def show(summary: Summary, stream: TextIO | None = None) -> None:
    """Print a short report to a stream, standard output if it is None."""
    console = _console(stream)
    _print(console, subject_of(summary).title, "bold")
    for table in [*answers(summary), *details(summary)]:
        if not table.title.startswith(_LEFT_TO_THE_LONG_ONE):
            show_table(table, console)
    _show_verdict(summary, console)


def show_folder(folder: str, stream: TextIO | None = None) -> None:
    """Print where the long report is."""
    _print(_console(stream), f"Results: {folder}")


def show_table(table: Table, console: Console | None = None) -> None:
    """Print one table."""
    console = console or _console()
    console.print()
    drawn = RichTable(title=Text(escaped(table.title)), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    shown = [index for index in range(len(table.columns)) if index not in table.wide]
    for index in shown:
        justify: Literal["left", "right"] = "left" if index in table.words else "right"
        # Where there is little room columns of words give way: those with a width do not.
        width = _width(table, index) if table.wide and index not in table.words else None
        drawn.add_column(Text(escaped(table.columns[index])), justify=justify, width=width)
    for row in table.rows:
        drawn.add_row(*(Text(escaped(row[index])) for index in shown))
    console.print(drawn)
    for line in _notes(table):
        _print(console, f"  {line}", "dim")
    for line in table.note.split("\n") if table.note else ():
        _print(console, f"  {line}", "dim")


def _print(console: Console, line: str, style: str = "") -> None:
    """Print one line of text: it is neither markup, nor control characters, nor names of emoji."""
    console.print(Text(escaped(line), style), soft_wrap=True)


def _console(stream: TextIO | None = None) -> Console:
    """Return a console that is as wide as its terminal; in a file or a pipe nothing has to give way."""
    console = Console(file=stream)
    return console if console.is_terminal else Console(file=stream, width=_IN_A_FILE)


def _notes(table: Table) -> list[str]:
    """Return what the columns left out say in words, each once, with the rows of which it is said."""
    said: dict[str, list[str]] = {}
    for row in table.rows:
        for index in table.wide:
            if index in table.words and row[index]:
                for part in row[index].split("; "):
                    said.setdefault(part, []).append(row[0])
    return [f"{table.columns[0]} {', '.join(of)}: {part}" for part, of in said.items()]


def _width(table: Table, index: int) -> int:
    """Return the width at which a column breaks none of its cells, but its heading between words."""
    return max(map(len, [*escaped(table.columns[index]).split(), *(escaped(row[index]) for row in table.rows)]))


def _show_verdict(summary: Summary, console: Console) -> None:
    status, requests = summary.verdict.status, summary.requests
    console.print()
    console.print(
        f"[bold {_COLOURS[status]}]{status.value}[/]  {requests.completed} completed, {requests.failed} failed, "
        f"{requests.aborted} aborted",
        highlight=False,
    )
    for check in summary.verdict.checks:
        if check.status in {Status.OK, Status.NOT_CHECKED}:
            continue
        text = f"  {check.name}: {check.value} (limit: {check.limit}). {check.advice or ''}"
        _print(console, text.rstrip())
    for label, message in causes_of(requests):
        _print(console, f"  {label}: {message}")

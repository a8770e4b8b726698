"""The report on a terminal: the answer, the latencies, and every check that was not plainly passed."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from loadgen.results.tables import Table, tables
from loadgen.results.text import title

_COLOURS = {"VALID": "green", "WARN": "yellow", "INVALID": "red", "INCONCLUSIVE": "red"}


def show(summary: Mapping[str, Any], folder: str) -> None:
    """Print a short report; the folder has the long one."""
    console = Console()
    console.print(title(summary), style="bold", markup=False, highlight=False, soft_wrap=True)
    for table in tables(summary):
        if table.title.startswith(("Speed", "Throughput", "Latency")):
            show_table(table, console)
    _show_verdict(summary, console)
    console.print(f"Results: {folder}", markup=False, highlight=False, soft_wrap=True)


def show_table(table: Table, console: Console | None = None) -> None:
    """Print one table."""
    console = console or Console()
    console.print()
    drawn = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        drawn.add_column(escape(column), justify="right" if index else "left")
    for row in table.rows:
        drawn.add_row(*(escape(cell) for cell in row))
    console.print(drawn)
    if table.note:
        console.print(f"  {table.note}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _show_verdict(summary: Mapping[str, Any], console: Console) -> None:
    status = summary["verdict"]["status"]
    requests = summary["requests"]
    console.print()
    console.print(
        f"[bold {_COLOURS[status]}]{status}[/]  {requests['completed']} completed, {requests['failed']} failed, "
        f"{requests['aborted']} aborted",
        highlight=False,
    )
    for check in summary["verdict"]["checks"]:
        if check["status"] in {"ok", "not checked"}:
            continue
        text = f"  {check['name']}: {check['value']} (limit: {check['limit']}). {check['advice'] or ''}"
        console.print(text.rstrip(), markup=False, highlight=False, soft_wrap=True)
    for outcome, message in requests["errors"].items():
        console.print(f"  {outcome}: {message}", markup=False, highlight=False, soft_wrap=True)

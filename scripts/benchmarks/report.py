"""The table of a claim, on the terminal and in the folder of this machine's results."""

import json
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.figures import Section, median_and_range

RESULTS = Path(__file__).with_name("results")
_LOAD_NOTED = 0.3
"""Average load before a run from which the report says that the machine was not idle."""
Row = dict[str, Any]


def row_of(name: str, section: Section, command: str, load_before: float) -> Row:
    """Return a section as it is saved: all that is needed to print it again."""
    return {
        "name": f"{name} {section.part}".strip(),
        "title": section.title,
        "machine": machine.described(),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "revision": machine.revision(),
        "command": command,
        "load_before": load_before,
        "cases": {case.name: _figures(section, case.values) for case in section.cases},
        "notes": section.notes,
    }


def show(row: Row) -> None:
    """Print it."""
    table = Table(title=f"{row['name']}: {row['title']}", title_justify="left")
    table.add_column("median (range)")
    for case in row["cases"]:
        table.add_column(case, justify="right")
    for figure in _names(row):
        table.add_row(figure, *(_cell(row, case, figure) for case in row["cases"]))
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(120, 50 + 32 * len(row["cases"])))
    console.print(table, *_lines(row), sep="\n", highlight=False, markup=False)


def save(row: Row) -> Path:
    """Write it in the place of an earlier one of its name; return the folder. What others measured stays."""
    folder = RESULTS / machine.slug()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "figures.json"
    rows: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}
    rows[row["name"]] = row
    path.write_text(json.dumps(rows, indent=1) + "\n")
    (folder / "figures.md").write_text("\n".join(_markdown(r) for _, r in sorted(rows.items())))
    return folder


def _figures(section: Section, values_of: Any) -> dict[str, Row]:  # noqa: ANN401 Case.values
    known = ((figure, values_of(figure)) for figure in section.names)
    return {
        figure: {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}
        for figure, values in known
        if values
    }


def _names(row: Row) -> list[str]:
    return list(dict.fromkeys(figure for figures in row["cases"].values() for figure in figures))


def _cell(row: Row, case: str, figure: str) -> str:
    found = row["cases"][case].get(figure)
    return median_and_range(found["rounds"]) if found else ""


def _lines(row: Row) -> list[str]:
    lines = [row["machine"], f"{row['date']}, {row['revision']}: {row['command']}", *row["notes"]]
    if row["load_before"] > _LOAD_NOTED:
        lines.insert(2, f"The machine was not idle: its average load before was {row['load_before']:.2f}.")
    return lines


def _markdown(row: Row) -> str:
    cases = list(row["cases"])
    lines = [f"## {row['name']}", "", row["title"], "", "| median (range) | " + " | ".join(cases) + " |"]
    lines.append("|---|" + "---:|" * len(cases))
    lines += [f"| {f} | " + " | ".join(_cell(row, case, f) for case in cases) + " |" for f in _names(row)]
    notes = (f"- {' '.join(line.split())}" for line in _lines(row))
    return "\n".join([*lines, "", *notes, ""])

"""``report.md``."""

import re

from loadgen import printable
from loadgen.results.pictures import Picture, pictures
from loadgen.results.summary_schema import Summary
from loadgen.results.table import Table
from loadgen.results.tables import answers, details
from loadgen.results.text import subject_of

_MARKUP = re.compile(r"[\\|<>`*_\[\]&$~]")
"""What starts markup inside a line, in GitHub's dialect: ``~`` strikes through, ``$`` begins a formula."""


def markdown(summary: Summary) -> str:
    """Return the report in Markdown; the first line names model, engine and data set."""
    about = f"Verdict: **{summary.verdict.status.value}**. Run `{summary.run_id}`."
    if url := summary.grafana:
        about += f" [In Grafana](<{url}>)."
    parts = [f"# {escaped(subject_of(summary).title)}", about]
    parts += [_drawn(table) for table in answers(summary)]
    parts += [_shown(picture) for picture in pictures(summary)]
    parts += [_drawn(table) for table in details(summary)]
    return "\n\n".join(parts) + "\n"


def _drawn(table: Table) -> str:
    lines = [
        "| " + " | ".join(escaped(c) for c in table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(escaped(c) for c in row) + " |" for row in table.rows),
    ]
    note = f"\n\n{escaped(table.note)}" if table.note else ""
    return f"## {escaped(table.title)}\n\n" + "\n".join(lines) + note


def _shown(picture: Picture) -> str:
    """Refer to the file beside the report."""
    return f"## {picture.title}\n\n![{picture.title}]({picture.name}.png)\n\n{escaped(picture.note)}"


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it as it is: no table, link, code, HTML or formula is made of it."""
    return _MARKUP.sub(r"\\\g<0>", printable.escaped(text))

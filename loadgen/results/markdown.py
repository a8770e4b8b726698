"""``report.md``."""

import re

from loadgen import printable
from loadgen.results.document import ABBREVIATIONS, Document
from loadgen.results.pictures.drawing import Picture
from loadgen.results.table import Table
from loadgen.results.text import ABSENT

_MARKUP = re.compile(r"[\\|<>`*_\[\]&$~]")
"""What starts markup inside a line, in GitHub's dialect: ``~`` strikes through, ``$`` begins a formula."""


def markdown(document: Document) -> str:
    """Return the report in Markdown; the first line names model, engine and data set."""
    headline = document.headline
    about = f"Verdict: **{document.verdict.value}**. {document.started}{', run' if document.started else 'Run'} "
    about += f"`{document.run_id}`."
    if document.grafana:
        about += f" [In Grafana](<{document.grafana}>)."
    interval = f" ({escaped(headline.interval)})" if headline.interval else ""
    figure = f"**{escaped(headline.figure)}**{interval}: {escaped(headline.of)}."
    figures = "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in headline.figures)
    caveats = [f"**{escaped(sentence)}**" for sentence in document.caveats]
    answer = [*caveats, figure, *([figures, escaped(ABBREVIATIONS)] if figures else [])]
    why = _why(document)
    return (
        "\n\n".join(
            [
                f"# {escaped(document.title)}",
                about,
                *([*why, *answer] if document.starts_with_why else [*answer, *why]),
                *map(shown, document.pictures),
                *map(_drawn, (document.asked, *document.answers, *document.details, document.checks)),
                _drawn(document.instrument),
            ]
        )
        + "\n"
    )


def _why(document: Document) -> list[str]:
    """Return the objections, and how requests failed."""
    lines = [
        f"- **{escaped(check.name)}** ({check.status.value}): {escaped(check.value or ABSENT)}; "
        f"limit: {escaped(check.limit or ABSENT)}. {escaped(check.explanation)}".rstrip()
        for check in document.objections
    ]
    lines += [f"- **{escaped(label)}**: {escaped(message)}" for label, message in document.causes]
    return [document.why, "\n".join(lines)] if lines else []


def _drawn(table: Table) -> str:
    lines = [
        "| " + " | ".join(escaped(c) for c in table.columns) + " |",
        "|" + "---|" * len(table.columns),
        *("| " + " | ".join(escaped(c) for c in row) + " |" for row in table.rows),
    ]
    note = f"\n\n{escaped(table.note)}" if table.note else ""
    return f"## {escaped(table.title)}\n\n" + "\n".join(lines) + note


def shown(picture: Picture) -> str:
    """Refer to the file next to the report."""
    return f"## {picture.title}\n\n![{picture.title}]({picture.name}.png)\n\n{escaped(picture.note)}"


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it as it is: no table, link, code, HTML or formula is made of it."""
    return _MARKUP.sub(r"\\\g<0>", printable.escaped(text))

"""``matrix.md``."""

from collections.abc import Iterable

from loadgen.matrix.document import Document, Entry, Reports, Table, Words, letter
from loadgen.results.markdown import escaped, shown


def markdown(document: Document) -> str:
    """Return the document in Markdown, in the layout of the specification's tables."""
    parts = [f"# {escaped(document.title)}", *map(escaped, document.notes)]
    if document.findings:
        parts.append("## Across engines\n\n" + _items(escaped(finding.text) for finding in document.findings))
    parts += [*map(_drawn, document.tables), *map(shown, document.pictures)]
    if document.reports:
        parts.append("## Reports\n\n" + _items(map(_links, document.reports)))
    return "\n\n".join(parts) + "\n"


def _drawn(table: Table) -> str:
    aligned = ["---:" if i in table.numbers else "---" for i in range(len(table.columns))]
    lines = [
        _row(map(escaped, table.columns)),
        f"|{'|'.join(aligned)}|",
        *(_row(map(_entry, row)) for row in table.rows),
    ]
    parts = [f"## {escaped(table.title)}", "\n".join(lines), escaped(" ".join((*table.notes, *table.notes_beside)))]
    if table.footnotes:
        parts.append(_items(f"<sup>{letter(i)}</sup> {escaped(text)}" for i, text in enumerate(table.footnotes)))
    return "\n\n".join(parts)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _entry(entry: Entry) -> str:
    figure = _lettered(Words(entry.text, entry.notes), bold=entry.best) if entry.text else ""
    first = " ".join(filter(None, (figure, escaped(entry.interval), escaped(entry.where))))
    return "<br>".join(filter(None, (first, *map(_lettered, entry.marks), *map(_lettered, entry.beside))))


def _lettered(words: Words, *, bold: bool = False) -> str:
    text = f"**{escaped(words.text)}**" if bold else escaped(words.text)
    return text + (f"<sup>{','.join(words.notes)}</sup>" if words.notes else "")


def _links(reports: Reports) -> str:
    engines = (
        f"{escaped(engine)} ({', '.join(f'[{escaped(text)}]({address})' for text, address in links)})"
        for engine, links in reports.engines
    )
    return f"{escaped(reports.model)}: {', '.join(engines)}"


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)

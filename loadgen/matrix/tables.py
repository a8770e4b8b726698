"""The specification's two tables, and a long one: what stands in each place of them, and what is said below."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

from loadgen.matrix.details import details
from loadgen.matrix.document import Document, Entry, Finding, Footnotes, Reports, Table
from loadgen.matrix.entries import (
    NOT_TRIED,
    SPEED,
    THROUGHPUT,
    Context,
    Figure,
    Measure,
    best,
    entry,
    figure,
    first_line,
)
from loadgen.matrix.pictures import pictures
from loadgen.matrix.prompt_tokens import compare
from loadgen.matrix.result import Result
from loadgen.printable import counted
from loadgen.results.text import ABSENT

Links = Mapping[tuple[str, str], Sequence[tuple[str, str]]]
"""By engine and model: texts and relative addresses of what has the details."""


def document(
    results: Sequence[Result], *, dataset: str, links: Links | None = None, about: Sequence[str] = ()
) -> Document:
    """Return the tables of these results, one for each engine and model at most; what has none is a dash.

    ``about``: sentences on when and where they were measured.
    """
    said = _said_of_all(results)
    swept = any(result.throughput for result in results)
    tables = [] if swept and not any(result.speed for result in results) else [_table(SPEED, results, said)]
    if swept:
        tables.append(_table(THROUGHPUT, results, said))
    if any(result.streaming or result.speed for result in results):
        tables.append(details(results, said))
    return Document(
        title=_title(results, dataset, said),
        tables=tuple(tables),
        notes=(*about, *_own_time(results)),
        pictures=pictures(results),
        findings=(*_unseen_failures(results), *compare(results)),
        reports=tuple(_reports(results, links or {})),
    )


def _title(results: Sequence[Result], dataset: str, said: Sequence[str]) -> str:
    engines, models = len(_engines(results)), len(_models(results))
    title = f"{counted(engines, 'engine')}, {counted(models, 'model')}, prompts: {dataset}"
    return f"{title} ({', '.join(said)})" if said else title


def _engines(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.engine for result in results))


def _models(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.model for result in results))


def _said_of_all(results: Sequence[Result]) -> list[str]:
    """Return the reservations that all results with figures share."""
    measured = [r for r in results if r.speed or r.streaming or r.throughput]
    if not measured:
        return []
    return [text for text in measured[0].reservations if all(text in r.reservations for r in measured)]


def _table(measure: Measure, results: Sequence[Result], said: Sequence[str]) -> Table:
    """Return one of the specification's tables: a row for each model, a column for each engine."""
    by_place = {(result.engine, result.model): result for result in results}
    engines = _engines(results)
    bounds = Counter(r.bound_text for r in results if measure.part(r) and r.bound and r.bound_text)
    usual = next((text for text, _ in bounds.most_common(1)), None)
    context = Context(footnotes=Footnotes(), said=said, bound=usual)
    figures: list[Figure] = []
    rows = []
    for model in _models(results):
        row = [figure(measure, by_place.get((engine, model))) for engine in engines]
        first, tie = best(row)
        cells = [entry(measure, of, tie if i == first else None, context) for i, of in enumerate(row)]
        rows.append((Entry(model), *cells))
        figures += row
    cells = [cell for _, *of_engines in rows for cell in of_engines]
    runs = {f.spread.runs for f in figures if f.spread}
    return Table(
        key=measure.key,
        title=measure.title,
        columns=("model", *engines),
        rows=tuple(rows),
        notes=tuple(_notes(measure, runs, cells)),
        notes_beside=tuple(_notes_beside(runs, cells, usual)),
        footnotes=context.footnotes.texts,
    )


def _notes(measure: Measure, runs: set[int], entries: Sequence[Entry]) -> Iterator[str]:
    """Say what figures are, how they were come by, and what marks mean, of what the table has."""
    yield measure.about
    if runs == {1}:
        yield "One run each, in brackets the 95 % interval within it."
    elif runs:
        count = f"{max(runs)}" if len(runs) == 1 else f"{min(runs)} to {max(runs)}"
        yield (
            f"Mean of {count} runs, for each of which the engine was started anew; in brackets the 95 % interval "
            "between runs (Student's t) or the mean one within them, whichever is wider."
        )
    if any(e.best for e in entries):
        yield "Bold: the highest of a row, of those that are VALID or WARN and have the same reservations."
    texts = {e.text for e in entries}
    if ABSENT in texts:
        yield f"{ABSENT}: not measured."
    if NOT_TRIED in texts:
        yield f"{NOT_TRIED}: not tried."


def _notes_beside(runs: set[int], entries: Sequence[Entry], bound: str | None) -> Iterator[str]:
    """Say what stands beside the figures."""
    beside = [words.text for e in entries for words in e.beside]
    if max(runs, default=0) > 1:
        yield "CV: standard deviation of the runs over their mean."
    if any(" of bound " in text for text in beside):
        of = f", of {bound} unless said otherwise" if bound else ""
        yield f"Bound: output tokens/s that the memory bandwidth allows one user{of}."
    if any(text.startswith("reference ") for text in beside):
        later = "; later: after the specification" if any("later" in text for text in beside) else ""
        yield f"Reference: as published in 2023, of one or two A100 80GB, without a spread{later}."


def _own_time(results: Sequence[Result]) -> list[str]:
    """Say of simulated engines that ran faster than they should that figures are in their own time."""
    factors: dict[float, dict[str, None]] = {}
    for result in results:
        if result.time_factor != 1 and (result.speed or result.streaming or result.throughput):
            factors.setdefault(result.time_factor, {})[result.engine] = None
    return [
        f"{', '.join(engines)}: simulated, {factor:g} times as fast as the engine that it stands for. Figures are in "
        f"that engine's own time: rates divided by {factor:g}, latencies multiplied."
        for factor, engines in factors.items()
    ]


def _unseen_failures(results: Sequence[Result]) -> list[Finding]:
    """Return the failures for which no table has a place, as all that it shows of them was measured."""
    return [
        Finding(f"{r.model} on {r.engine}: failed: {first_line(r.failed)}", fine=False)
        for r in results
        if r.failed is not None
        and r.speed
        and (r.throughput or not any(other.throughput for other in results))
        and (r.streaming or not any(other.streaming for other in results))
    ]


def _reports(results: Sequence[Result], links: Links) -> Iterator[Reports]:
    for model in _models(results):
        engines = [
            (engine, tuple((text, _address(to)) for text, to in found))
            for engine in _engines(results)
            if (found := links.get((engine, model)))
        ]
        if engines:
            yield Reports(model, tuple(engines))


def _address(relative: str) -> str:
    """Return an address that cannot lead out of where the document is served: neither a scheme nor a host."""
    return quote(relative.lstrip("/\\"))

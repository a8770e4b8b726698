"""The long table: TTFT and TPOT of the streaming pass, and what the mean of the speed table leaves open."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from loadgen.matrix.document import Entry, Footnotes, Table, Words
from loadgen.matrix.entries import missing
from loadgen.matrix.result import Result
from loadgen.matrix.spread import over_runs, single
from loadgen.matrix.verdicts import Runs, runs_of
from loadgen.measure.statistics import Distribution
from loadgen.metrics import TPOT, TTFT, Metric
from loadgen.results.summary_schema import Figure, Summary
from loadgen.results.text import ABSENT, digits_of, number

_Part = Literal["streaming", "speed"]


class _Column(NamedTuple):
    name: str
    part: _Part
    value: Callable[[Summary], Figure | None]
    power: int
    """Of a simulation's time factor: what a value is multiplied by to be in the engine's own time."""


def _latency(metric: Metric, p: str) -> Callable[[Summary], Figure]:
    return lambda summary: single(_percentile(summary.latency.get(metric.key), p))


def _percentile(of: Distribution | None, p: str) -> float | None:
    return None if of is None else of.percentile(p)


_COLUMNS = (
    *(
        _Column(metric.percentile_heading(p), "streaming", _latency(metric, p), 1)
        for metric in (TTFT, TPOT)
        for p in ("p50", "p99")
    ),
    _Column("total tokens/s", "speed", lambda s: None if s.speed is None else s.speed.tokens_per_second_total, -1),
    _Column("median output tokens", "speed", lambda s: single(s.tokens.output_per_request.p50), 0),
)

_ABOUT = (
    "TTFT and TPOT are of the streaming pass, one user; tokens/s and output tokens are of the runs of the speed table. "
    "Total: all output tokens / all round-trip time, so that long answers weigh more than in the mean."
)
_REPEATS = ("Figures of several runs are their means.", "Beside them the lowest and the highest.")


class _Row(NamedTuple):
    result: Result
    runs: dict[_Part, Runs]


def details(results: Sequence[Result], said: Sequence[str]) -> Table:
    """Return the long table; ``said``: reservations that the title has already."""
    rows = [
        _Row(result, {part: runs for part in ("streaming", "speed") if (runs := runs_of(getattr(result, part)))})
        for model in dict.fromkeys(result.model for result in results)
        for result in results
        if result.model == model and (result.streaming or result.speed)
    ]
    columns = [c for c in _COLUMNS if not c.name.endswith("p99, ms") or any(_has(row, c) for row in rows)]
    footnotes = Footnotes()
    drawn = tuple(_drawn(row, columns, footnotes, said) for row in rows)
    notes, beside = [_ABOUT], []
    if any(len(runs.counted) > 1 for row in rows for runs in row.runs.values()):
        notes.append(_REPEATS[0])
        beside.append(_REPEATS[1])
    if any(entry.text == ABSENT for row in drawn for entry in row):
        notes.append(f"{ABSENT}: not measured, or too few values for that percentile.")
    return Table(
        key="details",
        title="Latency of one user, and the speed by other measures",
        columns=("model", "engine", "verdict", *(c.name for c in columns)),
        rows=drawn,
        labels=2,
        numbers=tuple(range(3, 3 + len(columns))),
        notes=tuple(notes),
        notes_beside=tuple(beside),
        footnotes=footnotes.texts,
    )


def _has(row: _Row, column: _Column) -> bool:
    runs = row.runs.get(column.part)
    return runs is not None and over_runs(map(column.value, runs.counted)) is not None


def _drawn(row: _Row, columns: Sequence[_Column], footnotes: Footnotes, said: Sequence[str]) -> tuple[Entry, ...]:
    reserved = tuple(Words(text) for text in row.result.reservations if text not in said)
    verdict = Entry("", marks=reserved + _verdicts(row, footnotes))
    figures, told = [], set()
    for column in columns:
        runs = row.runs.get(column.part)
        if runs is not None:
            figures.append(_figure(column, runs, row.result.time_factor))
        elif column.part in told:
            figures.append(Entry(ABSENT, missing=True))
        else:  # why a part is missing stands once, in the first of its columns
            figures.append(missing(row.result, footnotes))
            told.add(column.part)
    return (Entry(row.result.model), Entry(row.result.engine), verdict, *figures)


def _figure(column: _Column, runs: Runs, time_factor: float) -> Entry:
    spread = over_runs(map(column.value, runs.counted), time_factor**column.power)
    if spread is None:
        return Entry(ABSENT, missing=True)
    digits = digits_of(spread.value) if column.power else 0
    several = spread.highest > spread.lowest
    spans = f"{number(spread.lowest, digits)} to {number(spread.highest, digits)}" if several else ""
    return Entry(number(spread.value, digits), interval=spans)


def _verdicts(row: _Row, footnotes: Footnotes) -> tuple[Words, ...]:
    """Return the verdict of each pass, or once that of both."""
    found = {part: runs.marks(footnotes) or (Words(runs.verdict, (), runs.verdict),) for part, runs in row.runs.items()}
    if len(found) == 1 or len(set(found.values())) == 1:
        return next(iter(found.values()))
    return tuple(words._replace(text=f"{part}: {words.text}") for part, said in found.items() for words in said)

"""The table of a run's figures by the names of its requests."""

from collections.abc import Callable, Mapping

from loadgen.measure.names import MOST, OTHER, label
from loadgen.metrics import FROM_SEND, PERCENTILES_SHOWN, REQUESTS_PER_MINUTE, Metric
from loadgen.printable import counted
from loadgen.results.summary_schema import NameSummary, Summary
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, few_note, number, percent, percentile, short, short_estimate

Cell = Callable[[NameSummary], str]

_TITLE = "Figures by name"
_PER_MINUTE = f"{REQUESTS_PER_MINUTE.label} [95 % interval]"


def names_table(summary: Summary) -> Table:
    """Return a row for each name, without rows where there are fewer than two: one name's figures are the run's.

    A column that no name has is left out.
    """
    figures = summary.by_name
    if len(figures) <= 1:
        return Table(_TITLE, (), ())
    columns = {heading: cell for heading, cell in _COLUMNS.items() if any(cell(f) != ABSENT for f in figures.values())}
    headings = ("name", *columns)
    where, note = _where(summary)
    if OTHER in figures:
        note = f"{note} {OTHER}: names beyond the {MOST} most frequent, and requests without a name.".lstrip()
    rows = tuple((label(name), *(cell(of_name) for cell in columns.values())) for name, of_name in figures.items())
    return Table(
        _TITLE + where,
        headings,
        rows,
        f"{note} {few_note(rows)}".strip(),
        wide=tuple(i for i, heading in enumerate(headings) if heading not in _FOR_TERMINALS),
    )


def _where(summary: Summary) -> tuple[str, str]:
    """Return which part of the run the figures are of, for the title, and the note about it."""
    best = summary.throughput
    if best is None or not best.requests_per_minute:
        return "", "Of all steps." if summary.is_sweep else ""
    per_minute = f"{REQUESTS_PER_MINUTE.label}: the name's part of what was served."
    if not summary.is_sweep:
        return "", per_minute
    where = f", at {counted(best.at_concurrency or 0, 'user')}"
    return where, f"Completed, failed and output tokens are of all steps. {per_minute}"


def _latency(metric: Metric, p: str) -> Cell:
    return lambda figures: percentile(figures.latency.get(metric.key), p, short)


def _goodput(figures: NameSummary) -> str:
    goodput = None if figures.window is None else figures.window.goodput
    return percent(None if goodput is None else goodput.share)


def _per_minute(figures: NameSummary) -> str:
    return short_estimate(None if figures.window is None else figures.window.requests_per_minute)


_COLUMNS: Mapping[str, Cell] = {
    "completed": lambda figures: str(figures.requests.completed),
    "failed": lambda figures: str(figures.requests.failed),
    _PER_MINUTE: _per_minute,
    "output tokens, mean": lambda figures: number(figures.tokens.output_per_request.mean, 1),
    **{metric.percentile_heading(p): _latency(metric, p) for metric, p in PERCENTILES_SHOWN},
    "within limits": _goodput,
}

_FOR_TERMINALS = {"name", "completed", "failed", _PER_MINUTE, *(m.percentile_heading("p50") for m in FROM_SEND)}

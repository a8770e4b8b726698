"""The table of a run's figures by the names of its requests."""

from collections.abc import Callable, Mapping
from typing import Any

from loadgen.measure.names import MOST, OTHER, label
from loadgen.metrics import FROM_SEND, PERCENTILES_SHOWN, REQUESTS_PER_MINUTE
from loadgen.printable import counted
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, number, percent, short, short_estimate

Summary = Mapping[str, Any]
Cell = Callable[[Summary], str]

_TITLE = "Figures by name"
_PER_MINUTE = f"{REQUESTS_PER_MINUTE.label} [95 % interval]"


def names_table(summary: Summary) -> Table:
    """Return a row for each name, without rows where there are fewer than two: one name's figures are the run's.

    A column that no name has is left out.
    """
    figures: Mapping[str, Summary] = summary.get("by_name") or {}
    if len(figures) <= 1:
        return Table(_TITLE, (), ())
    columns = {heading: cell for heading, cell in _COLUMNS.items() if any(cell(f) != ABSENT for f in figures.values())}
    headings = ("name", *columns)
    where, note = _where(summary)
    if OTHER in figures:
        note = f"{note} {OTHER}: names beyond the {MOST} most frequent, and requests without a name.".lstrip()
    return Table(
        _TITLE + where,
        headings,
        tuple((label(name), *(cell(of_name) for cell in columns.values())) for name, of_name in figures.items()),
        note,
        wide=tuple(i for i, heading in enumerate(headings) if heading not in _FOR_TERMINALS),
    )


def _where(summary: Summary) -> tuple[str, str]:
    """Return which part of the run the figures are of, for the title, and the note about it."""
    steps, best = summary.get("steps", ()), summary.get("throughput") or {}
    if not best.get("requests_per_minute"):
        return "", "Of all steps." if len(steps) > 1 else ""
    per_minute = "requests/min: the name's part of what was served, from 30 answers on."
    if len(steps) == 1:
        return "", per_minute
    where = f", at {counted(best['at_concurrency'], 'user')}"
    return where, f"Completed, failed and output tokens are of all steps. {per_minute}"


def _count(of: str) -> Cell:
    return lambda figures: str(figures["requests"][of])


def _latency(of: str, percentile: str) -> Cell:
    return lambda figures: short(figures["latency"].get(of, {}).get(percentile))


def _window(figures: Summary) -> Summary:
    return figures.get("window") or {}


_COLUMNS: Mapping[str, Cell] = {
    "completed": _count("completed"),
    "failed": _count("failed"),
    _PER_MINUTE: lambda figures: short_estimate(_window(figures).get(REQUESTS_PER_MINUTE.key)),
    "output tokens, mean": lambda figures: number(figures["tokens"]["output_per_request"].get("mean"), 1),
    **{metric.percentile_heading(p): _latency(metric.key, p) for metric, p in PERCENTILES_SHOWN},
    "within limits": lambda figures: percent((_window(figures).get("goodput") or {}).get("share")),
}

_FOR_TERMINALS = {"name", "completed", "failed", _PER_MINUTE, *(m.percentile_heading("p50") for m in FROM_SEND)}

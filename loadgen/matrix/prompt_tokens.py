"""Whether engines were given the same prompts: the tokens that each counted, row by row."""

from collections.abc import Mapping, Sequence

from loadgen.matrix.document import Finding, listed
from loadgen.matrix.result import Result

Counts = Mapping[str, int]
"""Prompt tokens of one row, by engine."""


def compare(results: Sequence[Result]) -> list[Finding]:
    """Return what is to be said of the prompt tokens of each model that several engines were measured with."""
    same: list[str] = []
    unknown: list[str] = []
    found: list[Finding] = []
    for model in dict.fromkeys(result.model for result in results):
        measured = [r for r in results if r.model == model and (r.speed or r.streaming or r.throughput)]
        if len(measured) < 2:  # noqa: PLR2004 nothing to compare
            continue
        rows = _rows(measured)
        differing = {row: counts for row, counts in rows.items() if len(set(counts.values())) > 1}
        if not rows:
            unknown.append(model)
        elif differing:
            found.append(Finding(_mismatch(model, rows, differing), fine=False))
        else:
            engines = len({engine for counts in rows.values() for engine in counts})
            same.append(f"{model} ({engines} engines, {len(rows):,} row{'' if len(rows) == 1 else 's'})")
    if same:
        found.append(Finding(f"The same prompt tokens on all engines, row by row: {', '.join(same)}.", fine=True))
    if unknown:
        text = (
            f"Prompt tokens were not compared, as fewer than two engines counted those of a row: {', '.join(unknown)}."
        )
        found.append(Finding(text, fine=False))
    return found


def _rows(results: Sequence[Result]) -> dict[int, Counts]:
    """Return the rows that at least two engines counted."""
    rows: dict[int, dict[str, int]] = {}
    for result in results:
        for row, count in (result.input_tokens or {}).items():
            rows.setdefault(row, {})[result.engine] = count
    return {row: counts for row, counts in sorted(rows.items()) if len(counts) > 1}


def _mismatch(model: str, rows: Mapping[int, Counts], differing: Mapping[int, Counts]) -> str:
    row, counts = next(iter(differing.items()))
    example = listed([f"{count:,} on {engine}" for engine, count in counts.items()])
    return (
        f"{model}: prompt tokens differ between engines on {len(differing):,} of {len(rows):,} rows, so that they were "
        f"not asked the same; row {row}: {example}."
    )

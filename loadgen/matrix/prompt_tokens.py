"""Whether engines were given the same prompts: the tokens that each counted, row by row."""

from collections.abc import Mapping, Sequence

from loadgen.matrix.document import Finding, listed
from loadgen.matrix.result import Result
from loadgen.printable import counted

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
            if not any(r.prompt_tokens for r in measured if r.input_tokens is None):
                unknown.append(model)
        elif differing:
            found.append(Finding(_mismatch(model, rows, differing) + _templates(measured), fine=False))
        else:
            engines = len({engine for counts in rows.values() for engine in counts})
            same.append(f"{model} ({engines} engines, {counted(len(rows), 'row')})")
        found += _totals(model, measured)
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


def _templates(results: Sequence[Result]) -> str:
    """Say which of the engines have chat templates of their own."""
    own = [f"{r.engine} takes chat templates from elsewhere ({r.templates})" for r in results if r.templates]
    return f" {'; '.join(own)}." if own else ""


def _totals(model: str, results: Sequence[Result]) -> list[Finding]:
    """Return what is to be said of engines that tell the prompt tokens of all requests together, and no more."""
    totals = {r.engine: r.prompt_tokens for r in results if r.prompt_tokens is not None}
    found = []
    for result in results:
        if result.input_tokens or result.engine not in totals or len(totals) == 1:
            continue
        own = totals[result.engine]
        others = {engine: total for engine, total in totals.items() if engine != result.engine}
        alike = all(total == own for total in others.values())
        text = f"{model}: {result.engine} tells only the sum of its prompt tokens, {own:,}, " + (
            f"which is that of {listed(list(others))} too."
            if alike
            else f"and it is {listed([f'{total:,} on {engine}' for engine, total in others.items()])}."
            + _templates(results)
        )
        found.append(Finding(text, fine=alike))
    return found

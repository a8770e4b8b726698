"""From a matrix's folders to what its tables are made from: nothing else is needed, so it can be done again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from loadgen.matrix.cell import Cell, Part
from loadgen.matrix.config import engine_of, model_of
from loadgen.matrix.matrix import Matrix
from loadgen.matrix.plan import reference_of
from loadgen.matrix.result import Result, Summary
from loadgen.record import Outcome
from loadgen.results import store
from loadgen.results.report import report
from loadgen.results.text import reservations

Links = Mapping[tuple[str, str], Sequence[tuple[str, str]]]


def results(matrix: Matrix) -> list[Result]:
    """Return what was found of each model with each engine, row by row."""
    return [_result(matrix, column, row) for row in matrix.config.models for column in matrix.config.engines]


def links(matrix: Matrix) -> Links:
    """Return by engine and model the reports of its runs, relative to the matrix's folder."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for cell in matrix.cells():
        for part in cell.parts:
            if (folder := cell.run_of(part)) is not None:
                label = part if matrix.config.repeats == 1 else f"{part} {cell.repeat}"
                target = (folder / "report.html").relative_to(matrix.folder)
                found.setdefault((_title(matrix, cell.column), cell.row), []).append((label, str(target)))
    return found


def _title(matrix: Matrix, column: str) -> str:
    """Return the head of a column: what the file says, else the engine's title, else, where two share it, its name."""
    titles = {}
    for other in matrix.config.engines:
        engine, said = engine_of(matrix.config, other)
        titles[other] = said.title or engine.title
    title = titles[column]
    return title if list(titles.values()).count(title) == 1 else f"{title} ({column})"


def _result(matrix: Matrix, column: str, row: str) -> Result:
    engine, said = engine_of(matrix.config, column)
    cells = matrix.repeats_of(column, row)
    speed, streaming, throughput = (_summaries(cells, part) for part in ("speed", "streaming", "throughput"))
    summaries = (*speed, *streaming, *throughput)
    known = next((s["launched"] for s in summaries if s.get("launched")), None) or {}
    expected = {row, said.model, model_of(matrix.config, row).source}
    others = [f"answered by {s['model']}" for s in summaries if said.host is not None and s["model"] not in expected]
    bound = known.get("bound") or {}
    failures = [f"repeat {cell.repeat}: {why}" if len(cells) > 1 else why for cell in cells if (why := cell.failure)]
    return Result(
        engine=_title(matrix, column),
        model=row,
        speed=speed,
        streaming=streaming,
        throughput=throughput,
        failed="; ".join(failures) or None,
        skipped=engine.refuses(model_of(matrix.config, row), said.options),
        reference=reference_of(engine, said),
        bound=bound.get("tokens_per_second"),
        bound_text=bound.get("of"),
        time_factor=float(known.get("time_factor") or 1.0),
        input_tokens=_input_tokens(cells),
        reservations=tuple(dict.fromkeys((*others, *(r for s in summaries for r in reservations(s))))),
    )


def _summaries(cells: Sequence[Cell], part: Part) -> tuple[Summary, ...]:
    return tuple(_summary(folder) for cell in cells if (folder := cell.run_of(part)) is not None)


def _summary(folder: Path) -> Summary:
    """Return a run's summary; one that was killed before it had written it gets it now."""
    try:
        summary: Summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return report(folder)
    return summary


def _input_tokens(cells: Sequence[Cell]) -> dict[int, int] | None:
    """Return the prompt tokens of each row of the data set, as the first run that tells has them."""
    for cell in cells:
        for part in cell.parts:
            folder = cell.run_of(part)
            if folder is None or part == "throughput":
                continue
            _, records = store.read(folder)
            found = {
                r.prompt_row: r.input_tokens for r in records if r.outcome is Outcome.OK and r.input_tokens is not None
            }
            if found:
                return found
    return None

"""From a matrix's folders to what its tables are made from: nothing else is needed, so it can be done again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from loadgen.matrix.cell import Cell, Part
from loadgen.matrix.config import engine_of, model_of
from loadgen.matrix.matrix import Matrix
from loadgen.matrix.plan import reference_of, refusal
from loadgen.matrix.result import Result
from loadgen.printable import counted
from loadgen.record import Outcome
from loadgen.results import store
from loadgen.results.report import summary_of
from loadgen.results.summary_schema import Summary
from loadgen.results.text import subject_of

Links = Mapping[tuple[str, str], Sequence[tuple[str, str]]]


def results(matrix: Matrix) -> list[Result]:
    """Return what was found of each model with each engine, row by row."""
    titles = _titles(matrix)
    return [
        _result(matrix, column, row, titles[column]) for row in matrix.config.models for column in matrix.config.engines
    ]


def links(matrix: Matrix) -> Links:
    """Return by engine and model the reports of its runs, relative to the matrix's folder."""
    titles = _titles(matrix)
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for cell in matrix.cells():
        for part in cell.parts:
            if (folder := cell.run_of(part)) is not None:
                label = part if matrix.config.repeats == 1 else f"{part} {cell.repeat}"
                target = (folder / "report.html").relative_to(matrix.folder)
                found.setdefault((titles[cell.column], cell.row), []).append((label, str(target)))
    return found


def about(matrix: Matrix) -> list[str]:
    """Return when and where the matrix was measured, as its runs recorded it."""
    folders = [folder for cell in matrix.cells() for part in cell.parts if (folder := cell.run_of(part)) is not None]
    manifests = [store.read_manifest(folder) for folder in folders]
    if not manifests:
        return []
    times = sorted(datetime.fromisoformat(m.started_at).astimezone(UTC) for m in manifests)
    machines = dict.fromkeys(str(m.environment.get("cpu") or "a CPU that is not known") for m in manifests)
    gpus = dict.fromkeys(gpu.name or "a GPU" for m in manifests if m.launched for gpu in m.launched.gpus)
    versions = dict.fromkeys(m.versions.get("loadgen", "") for m in manifests)
    between = f"{times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M} UTC"
    client = f"Load generator: loadgen {', '.join(versions)} on {', '.join(machines)}."
    engines = f"Engines that were started here ran on {', '.join(gpus) or 'the CPU'}."
    return [f"{counted(len(manifests), 'run')}, started from {between}. {client} {engines}"]


def _titles(matrix: Matrix) -> dict[str, str]:
    """Return the heads of columns: what the file says, else what was started, else the engine's title.

    Where two share one, the column's name stands beside it.
    """
    titles = {}
    for column in matrix.config.engines:
        engine, said = engine_of(matrix.config, column)
        titles[column] = said.title or _started(matrix, column) or engine.title
    heads = list(titles.values())
    return {c: title if heads.count(title) == 1 else f"{title} ({c})" for c, title in titles.items()}


def _started(matrix: Matrix, column: str) -> str | None:
    """Return the title of the engine that answered in a column: its version may be another way's."""
    for cell in matrix.cells():
        for part in cell.parts:
            if cell.column == column and (folder := cell.run_of(part)) is not None:
                launched = store.read_manifest(folder).launched
                return None if launched is None else launched.title
    return None


def _result(matrix: Matrix, column: str, row: str, title: str) -> Result:
    engine, said = engine_of(matrix.config, column)
    cells = matrix.repeats_of(column, row)
    speed, streaming, throughput = (_summaries(cells, part) for part in ("speed", "streaming", "throughput"))
    summaries = (*speed, *streaming, *throughput)
    known = next((s.launched for s in summaries if s.launched is not None), None)
    expected = {row, said.model, model_of(matrix.config, row).source}
    others = [f"answered by {s.model}" for s in summaries if said.host is not None and s.model not in expected]
    bound = None if known is None else known.bound
    failures = [
        f"repeat {cell.repeat}: {why}" if len(cells) > 1 else why
        for cell in cells
        if (why := " ".join((cell.failure or "").split()))
    ]
    return Result(
        engine=title,
        model=row,
        speed=speed,
        streaming=streaming,
        throughput=throughput,
        failed="; ".join(failures) or None,
        skipped=refusal(matrix.config, engine, said, model_of(matrix.config, row)),
        reference=reference_of(engine, said),
        bound=None if bound is None else bound.tokens_per_second,
        bound_text=None if bound is None else bound.of,
        time_factor=float((known and known.time_factor) or 1.0),
        input_tokens=_input_tokens(cells),
        prompt_tokens=_prompt_tokens(cells),
        templates=engine.template_source,
        reservations=tuple(dict.fromkeys((*others, *(r for s in summaries for r in subject_of(s).reservations)))),
    )


def _summaries(cells: Sequence[Cell], part: Part) -> tuple[Summary, ...]:
    return tuple(summary_of(folder) for cell in cells if (folder := cell.run_of(part)) is not None)


def _input_tokens(cells: Sequence[Cell]) -> dict[int, int] | None:
    """Return the prompt tokens of each row of the data set, as the first run that tells has them."""
    for cell in cells:
        for part in cell.parts:
            folder = cell.run_of(part)
            if folder is None or part == "throughput":
                continue
            _, records = store.read_folder(folder)
            found = {
                r.prompt_row: r.input_tokens
                for r in records
                if r.outcome is Outcome.OK and r.prompt_row is not None and r.input_tokens is not None
            }
            if found:
                return found
    return None


def _prompt_tokens(cells: Sequence[Cell]) -> int | None:
    """Return the prompt tokens of the first run of one user, by its records or else by the engine's own counters."""
    folder = next(
        (f for cell in cells for part in cell.parts if part != "throughput" and (f := cell.run_of(part))), None
    )
    if folder is None:
        return None
    manifest, records = store.read_folder(folder)
    if any(r.outcome is not Outcome.OK for r in records):
        return None
    told = [r.input_tokens for r in records if r.input_tokens is not None]
    if len(told) == len(records):
        return sum(told)
    before, after = (c.prompt_tokens for c in manifest.counters) if manifest.counters else (None, None)
    return None if before is None or after is None else round(after - before)

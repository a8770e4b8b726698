"""``loadgen matrix``: engines x models, started, measured and tabled."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.exit_status import ExitStatus
from loadgen.printable import escaped, escaped_lines

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands
    from loadgen.matrix.config import Config
    from loadgen.matrix.matrix import Matrix


def add(commands: "Commands") -> None:
    """Declare it."""
    parser = commands.add_parser("matrix", help="measure engines x models and print the tables")
    parser.add_argument("file", type=Path, nargs="?", help="a matrix.toml; the specification's if not given")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, and start nothing")
    parser.add_argument(
        "--resume", nargs="?", type=Path, const="", metavar="FOLDER", help="go on with one that was begun"
    )
    parser.add_argument("--repeats", type=int, help="measure all of it so many times, engines restarted in between")
    parser.add_argument("--weights", choices=("trained", "random"), help="random: made here, for speed alone")
    parser.add_argument("--dataset", help="prompts: 'lima', 'samples', or a JSON file")
    parser.add_argument("--results", type=Path, default=Path("results"), help="parent folder (default: results)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure a matrix, or plan it; return 0, 3 if a cell failed or is INVALID, 4 if it is not complete."""
    from loadgen.errors import OptionError, UsageError
    from loadgen.launch.interrupts import ignore_interrupts, interruptible
    from loadgen.live.status import Status
    from loadgen.matrix.matrix import create, reopen
    from loadgen.matrix.run import run as measure

    if options.resume is not None:
        given = [name for name in ("file", "repeats", "weights", "dataset") if getattr(options, name) is not None]
        if given or options.dry_run:
            raise OptionError("--resume continues a matrix as it was started; it takes no other option than --results.")
        matrix = reopen(options.resume if options.resume != Path() else None, options.results)
    else:
        config, text = _config(options)
        if options.dry_run:
            return _plan(config)
        matrix = create(options.results, config, text)
    interruptible()
    interrupted = False
    try:
        with Status() as status:
            status.say(f"matrix: {matrix.folder}")
            measure(matrix, status)
    except UsageError:
        nothing_begun = options.resume is None and not (matrix.folder / "cells").exists()
        if nothing_begun:  # --resume shall not find it
            shutil.rmtree(matrix.folder, ignore_errors=True)
        raise
    except KeyboardInterrupt:
        ignore_interrupts()  # the tables take a moment
        interrupted = True
    status_code = _show(matrix)
    if interrupted:
        folder = escaped(str(matrix.folder))
        print(f"loadgen: interrupted; go on with: loadgen matrix --resume {folder}", file=sys.stderr)
        return ExitStatus.INCONCLUSIVE
    return status_code


def _config(options: argparse.Namespace) -> "tuple[Config, str]":
    import msgspec

    from loadgen.matrix.config_file import check, read

    config, text = read(options.file)
    given = {name: value for name in ("repeats", "weights", "dataset") if (value := getattr(options, name)) is not None}
    if (dataset := given.get("dataset")) and Path(dataset).is_file():
        given["dataset"] = str(Path(dataset).resolve())
    config = msgspec.structs.replace(config, **given)
    check(config, "the command line")
    return config, text


def _plan(config: "Config") -> int:
    from loadgen.launch.gpus import gpus
    from loadgen.matrix.matrix import Matrix
    from loadgen.matrix.plan import gpus_of, launch_lines, look, plan_table
    from loadgen.results.terminal import show_table

    there = gpus()
    machine = None if there else config.plan_for
    shown = gpus_of(machine) if machine else there
    planned = [look(config, cell, shown, planned=machine is not None) for cell in Matrix(Path(), config).cells()]
    show_table(plan_table(config, planned, machine))
    for number, one in enumerate(planned, start=1):
        if one.order is not None or one.said.host is not None:
            on = one.order.title if one.order else one.engine.title
            print(escaped_lines(f"{number}. {one.cell.row} on {on}:\n   {launch_lines(one)}"))
    return ExitStatus.OK


def _show(matrix: "Matrix") -> int:
    """Write and print the tables; return the exit status that they come to."""
    from loadgen.matrix.gather import about, links, results
    from loadgen.matrix.html import html
    from loadgen.matrix.markdown import markdown
    from loadgen.matrix.tables import document
    from loadgen.matrix.terminal import show
    from loadgen.results import files
    from loadgen.results.pictures.drawing import png

    found = results(matrix)
    runs = [s for r in found for s in (*r.speed, *r.streaming, *r.throughput)]
    dataset = next((str(s.dataset) for s in runs), matrix.config.dataset)
    tables = document(found, dataset=dataset, links=links(matrix), about=about(matrix))
    for picture in tables.pictures:
        files.write(matrix.folder / f"{picture.name}.png", png(picture, escaped(tables.title)))
    files.write(matrix.folder / "matrix.md", markdown(tables).encode())
    files.write(matrix.folder / "matrix.html", html(tables).encode())
    show(tables)
    print(f"Results: {escaped(str(matrix.folder))}")
    statuses = {s.verdict.status for s in runs}
    if any(r.failed for r in found) or "INVALID" in statuses:
        return ExitStatus.INVALID
    if "INCONCLUSIVE" in statuses or _incomplete(matrix):
        return ExitStatus.INCONCLUSIVE
    return ExitStatus.OK


def _incomplete(matrix: "Matrix") -> bool:
    from loadgen.matrix.config import engine_of, model_of
    from loadgen.matrix.plan import refusal

    for cell in matrix.cells():
        engine, said = engine_of(matrix.config, cell.column)
        if cell.missing and refusal(matrix.config, engine, said, model_of(matrix.config, cell.row)) is None:
            return True
    return False

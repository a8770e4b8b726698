"""``loadgen report``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands


def add(commands: "Commands") -> None:
    """Declare it."""
    parser = commands.add_parser("report", help="summarise a results folder again, without Locust or server")
    parser.add_argument("folder", type=Path, help="the folder of one run, results/RUN-ID")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="another run, to compare prompt by prompt")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Summarise a run again; return the exit status that its verdict has."""
    from loadgen.results import store
    from loadgen.results.compare import compare
    from loadgen.results.report import report
    from loadgen.results.terminal import show, show_folder, show_table

    beside = store.read_folder(options.beside) if options.beside is not None else None
    summary = report(options.folder)
    show(summary)
    show_folder(str(options.folder))
    if beside is not None:
        show_table(compare(store.read_folder(options.folder), beside))
    return summary.verdict.status.exit_status

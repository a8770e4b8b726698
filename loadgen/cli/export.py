"""``loadgen export``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.errors import OptionError
from loadgen.exit_status import ExitStatus
from loadgen.results.export import FORMATS, export

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands


def add(commands: "Commands") -> None:
    """Declare it."""
    parser = commands.add_parser("export", help="write a run's records in the file format of another tool")
    parser.add_argument("folder", type=Path, help="the folder of one run, results/RUN-ID")
    formats = ". ".join(f"{name}: {form.content}" for name, form in FORMATS.items())
    parser.add_argument("--format", required=True, choices=FORMATS, help=formats)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="file to write, by default in the run's folder. Where each step of a sweep has its own files, they are "
        "written to a folder of this name without its suffix",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the run in the format, and print the name of each file."""
    from loadgen.results.run_data import read_run

    path = options.output or options.folder / FORMATS[options.format].file_name
    try:
        files = export(read_run(options.folder), options.format, path)
    except OSError as error:
        raise OptionError(f"--output: cannot write {path}: {error.strerror}.") from None
    print(*files, sep="\n")
    return ExitStatus.OK

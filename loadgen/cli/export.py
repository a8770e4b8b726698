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
    parser.add_argument("--format", required=True, choices=FORMATS, help="vllm: the result file of `vllm bench serve`")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: in the run's folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the file, and print its name."""
    from loadgen.results.run_data import read_run

    path = options.output or options.folder / FORMATS[options.format]
    try:
        export(read_run(options.folder), options.format, path)
    except OSError as error:
        raise OptionError(f"--output: cannot write {path}: {error.strerror}.") from None
    print(path)
    return ExitStatus.OK

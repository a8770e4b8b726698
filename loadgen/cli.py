"""``loadgen``: what is done outside a run."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadgen.errors import UsageError
from loadgen.version import VERSION

if TYPE_CHECKING:
    from loadgen.launch.calibrate import Grid


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 usage, 3 invalid, 4 inconclusive."""
    parser = argparse.ArgumentParser(prog="loadgen", description="Measures how fast an LLM inference engine is.")
    parser.add_argument("--version", action="version", version=f"loadgen {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="summarise a results folder again, without Locust or server")
    report.add_argument("folder", type=Path, help="the folder of one run, results/RUN-ID")
    report.add_argument("--beside", type=Path, metavar="FOLDER", help="another run, to compare prompt by prompt")
    report.set_defaults(run=_report)
    calibrating = commands.add_parser("calibrate", help="measure how exact this machine is, in under 3 minutes")
    calibrating.set_defaults(run=lambda _: calibrate())
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as error:
        print(f"loadgen: {error}", file=sys.stderr)
        return 2


def _report(options: argparse.Namespace) -> int:
    from loadgen.results import store
    from loadgen.results.compare import compare
    from loadgen.results.report import report
    from loadgen.results.summary import verdict_of
    from loadgen.results.terminal import show, show_table

    beside = store.read(options.beside) if options.beside is not None else None
    summary = report(options.folder)
    show(summary, str(options.folder))
    if beside is not None:
        show_table(compare(store.read(options.folder), beside))
    return verdict_of(summary).exit_status


def calibrate(grid: "Grid | None" = None) -> int:
    """Measure this machine, keep the calibration and print its envelope; return 0, or 4 if it was interrupted."""
    from loadgen.launch.calibrate import Grid, measure
    from loadgen.live.cells import CellProgress
    from loadgen.results import calibration
    from loadgen.results.calibration_table import calibration_table
    from loadgen.results.terminal import show_table

    file = calibration.writable_path()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # processes are ours to end, whoever ends us
    try:
        with CellProgress() as progress:
            found = measure(grid or Grid(), progress)
    except KeyboardInterrupt:
        print("loadgen: interrupted; what was calibrated before is as it was.", file=sys.stderr)
        return 4
    calibration.save(found, file)
    show_table(calibration_table(found))
    print(f"Kept in {file}; every run's report quotes it from now on.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

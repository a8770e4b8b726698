"""``loadgen calibrate``."""

import argparse
import sys
from typing import TYPE_CHECKING

from loadgen.exit_status import ExitStatus

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands
    from loadgen.launch.calibrate import Grid


def add(commands: "Commands") -> None:
    """Declare it."""
    parser = commands.add_parser("calibrate", help="measure how exact this machine is, in under 3 minutes")
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Measure this machine."""
    return calibrate()


def calibrate(grid: "Grid | None" = None) -> int:
    """Measure this machine, keep the calibration and print its envelope; return 0, or 4 if it was interrupted."""
    from loadgen.launch.calibrate import Grid, measure
    from loadgen.launch.interrupts import interruptible
    from loadgen.live.cells import CellProgress
    from loadgen.results import calibration
    from loadgen.results.calibration_table import calibration_table
    from loadgen.results.terminal import show_table

    file = calibration.writable_path()
    interruptible()
    try:
        with CellProgress() as progress:
            found = measure(grid or Grid(), progress)
    except KeyboardInterrupt:
        print("loadgen: interrupted; what was calibrated before is as it was.", file=sys.stderr)
        return ExitStatus.INCONCLUSIVE
    calibration.save(found, file)
    show_table(calibration_table(found))
    print(f"Kept in {file}; every run's report quotes it from now on.")
    return ExitStatus.OK

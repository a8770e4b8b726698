"""``loadgen``: what is done outside a run. One module per command."""

import argparse
import sys
from collections.abc import Sequence

from loadgen.cli import calibrate, engine, matrix, report
from loadgen.errors import UsageError
from loadgen.version import VERSION

_COMMANDS = (report, calibrate, engine, matrix)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 usage, 3 invalid, 4 inconclusive."""
    parser = argparse.ArgumentParser(prog="loadgen", description="Measures how fast an LLM inference engine is.")
    parser.add_argument("--version", action="version", version=f"loadgen {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except UsageError as error:
        print(f"loadgen: {error}", file=sys.stderr)
        return 2

"""The command ``loadgen``. One module per subcommand."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from loadgen.cli import calibrate, engine, export, gpu_exporter, matrix, report, run
from loadgen.cli.commands import Parser
from loadgen.errors import DISK_ERRORS, UsageError
from loadgen.exit_status import ExitStatus
from loadgen.launch.interrupts import ignore_interrupts
from loadgen.printable import escaped
from loadgen.terminal_text import accept_every_character
from loadgen.version import VERSION

_COMMANDS = (run, report, export, calibrate, engine, matrix, gpu_exporter)


def command() -> NoReturn:
    """Run one command and end the process; a signal that comes after its end does not change the exit status."""
    status = main()
    ignore_interrupts()
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    parser = Parser(prog="loadgen", description="Measures how fast an LLM inference engine is.")
    parser.add_argument("--version", action="version", version=f"loadgen {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    accept_every_character()
    try:
        return int(options.run(options))
    except UsageError as error:
        print(f"loadgen: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        ignore_interrupts()
        print("loadgen: interrupted.", file=sys.stderr)
        return ExitStatus.INCONCLUSIVE
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except OSError as error:
        if error.errno == errno.EBADF:
            print("loadgen: standard output is closed, so nothing was shown.", file=sys.stderr)
            return ExitStatus.USAGE
        if error.errno not in DISK_ERRORS:
            raise
        print(
            f"loadgen: {escaped(str(error.filename or 'a file'))} cannot be written ({error.strerror}).",
            file=sys.stderr,
        )
        return ExitStatus.USAGE

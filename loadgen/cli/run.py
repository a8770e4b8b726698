"""``loadgen run``: what ``locust -f FILE`` does, from any directory, with the locustfiles of the package by name."""

import argparse
import os
from typing import TYPE_CHECKING, NoReturn

from loadgen.launch.locustfiles import find_locustfile, locust_command, shipped

if TYPE_CHECKING:
    from loadgen.cli.commands import Commands


def add(commands: "Commands") -> None:
    """Declare it."""
    choices = "|".join([*shipped(), "FILE"])
    parser = commands.add_parser(
        "run",
        help="run a locustfile",
        usage=f"loadgen run {choices} [options of Locust and loadgen]",
        description="Run a locustfile, as `locust -f FILE` does. `loadgen run chat --help` lists the options.",
    )
    parser.add_argument("locustfile", metavar=choices, help="a locustfile of the package, or the path of your own")
    rest = parser.add_argument("options", nargs=argparse.REMAINDER, help="the options that `locust` takes")
    rest.required = False
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> NoReturn:
    """Become Locust: the process keeps its id, so signals, exit status and terminal are Locust's."""
    command = [*locust_command(find_locustfile(options.locustfile)), *options.options]
    os.execv(command[0], command)  # noqa: S606 our own

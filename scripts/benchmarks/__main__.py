"""``scripts/bench CLAIM``: measure one claim against the truth server, or all of them."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from benchmarks import (
    burst,
    capacity,
    ceiling,
    compare,
    cost,
    coverage,
    detection,
    ending,
    exact,
    fuzz,
    kills,
    late,
    machine,
    many,
    matrix,
    monitoring,
    picture,
    processes,
    report,
    send,
    size_picture,
    sizes,
    statistics,
    steps,
    tls,
)
from benchmarks.figures import Section


class Claim(Protocol):
    """A module that measures a claim; its docstring is its help."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser, /) -> None:
        """Declare what may be varied."""

    def measure(self, options: argparse.Namespace, /) -> Section:
        """Measure it."""


CLAIMS: Mapping[str, tuple[Claim, str]] = {
    "ceiling": (ceiling, "1 min"),
    "send": (send, "20 s"),
    "exact": (exact, "1 min"),
    "cost": (cost, "3 min"),
    "steps": (steps, "1 min"),
    "statistics": (statistics, "2 min"),
    "sizes": (sizes, "10 min"),
    "ending": (ending, "10 s"),
    "monitoring": (monitoring, "2 min"),
    "burst": (burst, "30 s"),
    "late": (late, "30 s"),
    "tls": (tls, "40 s"),
    "many": (many, "2 min"),
    "coverage": (coverage, "20 min"),
    "detection": (detection, "9 min"),
    "capacity": (capacity, "50 min"),
    "processes": (processes, "2 min"),
    "fuzz": (fuzz, "1 min"),
    "kills": (kills, "13 min"),
    "matrix": (matrix, "8 min"),
    "peers": (compare, "20 min"),
}
"""By name, with the time that a round takes."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print, save; 1 if something could not be measured."""
    options = _parser().parse_args(arguments)
    machine.open_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as at Ctrl-C, what was started is ended
    if options.claim != "all":
        return _run(options.claim, options)
    common = ["--rounds", str(options.rounds), *(["--save"] if options.save else [])]
    return max(_run(name, _parser().parse_args([name, *common])) for name in CLAIMS)


def _run(name: str, options: argparse.Namespace) -> int:
    load_before = os.getloadavg()[0]
    section = CLAIMS[name][0].measure(options)
    row = report.row_of(name, section, _command(name, options), load_before)
    report.show(row)
    if options.save and any(case.rounds for case in section.cases):
        folder = report.save(row)
        picture.draw(folder)
        size_picture.draw(folder)
        print(f"saved in {folder}", file=sys.stderr)
    return 0 if all(case.rounds for case in section.cases) else 1


def _command(name: str, options: argparse.Namespace) -> str:
    """Return the command that measures the same again: the options that are not at their defaults."""
    usual = vars(_parser().parse_args([name]))
    given = {key: value for key, value in vars(options).items() if value != usual[key] and key not in {"save", "claim"}}
    words = ["scripts/bench", name]
    for key, value in given.items():
        words += ["--" + key.replace("_", "-"), *([] if value is True else [str(value)])]
    return shlex.join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="The client runs on core 0, the server on core 1. An idle machine is wanted.",
    )
    claims = parser.add_subparsers(dest="claim", required=True, metavar="CLAIM")
    for name, (claim, takes) in CLAIMS.items():
        text = f"{claim.__doc__} About {takes} a round."
        claim.add_options(_with_common(claims.add_parser(name, help=text, description=text)))
    _with_common(claims.add_parser("all", help="all of them, one after another, with their defaults"))
    return parser


def _with_common(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--rounds", type=int, default=3, help="medians are printed, with the range")
    parser.add_argument("--save", action="store_true", help=f"write to {report.RESULTS.name}/ beside this program")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

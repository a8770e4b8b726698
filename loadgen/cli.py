"""``loadgen``: what is done outside a run."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadgen.errors import UsageError
from loadgen.version import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 2 usage, 3 invalid, 4 inconclusive."""
    parser = argparse.ArgumentParser(prog="loadgen", description="Measures how fast an LLM inference engine is.")
    parser.add_argument("--version", action="version", version=f"loadgen {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="summarise a results folder again, without Locust or server")
    report.add_argument("folder", type=Path, help="the folder of one run, results/RUN-ID")
    report.add_argument("--beside", type=Path, metavar="FOLDER", help="another run, to compare prompt by prompt")
    report.set_defaults(run=_report)
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


if __name__ == "__main__":
    sys.exit(main())

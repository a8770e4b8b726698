"""The parser of the command line, and what a subcommand is added to."""

import argparse
from collections.abc import Sequence
from typing import Any, TypeAlias

from loadgen.suggestion import suggestion

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 argparse has no public name for it
"""What the module of a subcommand adds its parser to."""


class Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest option for one that it does not have; its subcommands have such parsers, too.

    Options may be abbreviated as argparse allows it, as long as that is unambiguous.
    """

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]  # noqa: ANN401 argparse has overloads
        """Parse a command line; arguments that are not known end the process with status 2.

        A subcommand is parsed by this method. The parser of the whole command line, which would otherwise report what a
        subcommand does not know, does not have its options.
        """
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion(self, unknown)}")
        return options, unknown

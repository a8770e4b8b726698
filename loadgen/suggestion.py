"""What a mistyped option was probably meant to be."""

import argparse
import difflib
from collections.abc import Sequence


def suggestion(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> str:
    """Return the end of an error message: ``; did you mean --sample?``, or nothing if no option is similar.

    ``unknown``: the arguments that the parser does not know, values included. Only the first option among them counts.
    """
    mistyped = next((word.partition("=")[0] for word in unknown if word.startswith("-")), "")
    options = [name for action in parser._actions for name in action.option_strings]  # noqa: SLF001 there is no public list
    nearest = difflib.get_close_matches(mistyped, options, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""

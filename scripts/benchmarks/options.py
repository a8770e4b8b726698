"""A list of numbers on the command line: what cannot be meant is refused with the option's name, by argparse."""

import argparse


def counts(text: str) -> str:
    """Check a list of whole numbers above 0; it stays text, so that the command can be printed again."""
    if not all(part.isdecimal() and int(part) > 0 for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers above 0 are wanted, with commas between")
    return text

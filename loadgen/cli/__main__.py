"""``python -m loadgen.cli``."""

from loadgen.cli import command

command()

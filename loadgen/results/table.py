"""A table of a report, before it is drawn."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """A table: first column words, the others numbers, unless said otherwise."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    words: tuple[int, ...] = (0,)
    """Columns that are not numbers."""
    wide: tuple[int, ...] = ()
    """Columns for which a terminal has no room; what they say in words it shows below the table."""

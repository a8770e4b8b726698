"""Which names of requests are shown.

Users' code names its requests, and may by mistake give each a different name. Figures by name are therefore bounded:
the requests of all names beyond 32 are summed up as ``other``.
"""

from collections.abc import Mapping

from loadgen.printable import escaped

MOST = 32
"""Number of names that have separate figures."""

OTHER = "other"
"""Stands for all further names, and for requests without a name: figures by name add up to those of the run."""

LONGEST = 60
"""Characters of a name that are shown."""


def label(name: str) -> str:
    """Return a name as it is shown: on one line, without control characters, at most :data:`LONGEST` long."""
    text = escaped(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def most_frequent(counts: Mapping[str | None, int]) -> list[str]:
    """Return the names that most requests have, the most frequent first; :data:`OTHER` is not one of them."""
    named = {name: count for name, count in counts.items() if name and name != OTHER}
    return sorted(named, key=lambda name: (-named[name], name))[:MOST]


class FirstNames:
    """The names that came first: while a run goes on, nobody knows which will be the most frequent."""

    def __init__(self) -> None:
        self._labels: set[str] = set()

    def label_of(self, name: str | None) -> str:
        """Return the label under which a request of this name is shown."""
        shown = label(name) if name else OTHER
        if shown not in self._labels and len(self._labels) < MOST and shown != OTHER:
            self._labels.add(shown)
        return shown if shown in self._labels else OTHER

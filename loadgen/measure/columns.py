"""Columns: one field of many records, packed.

Values are added in batches and read for some rows, in any order; ``rows`` None stands for all of them. Numbers take
eight bytes each, words four, gaps between chunks four, and integers that are all None nothing.
"""

from array import array
from collections.abc import Iterator
from itertools import accumulate, chain
from math import nan
from statistics import fmean
from types import NoneType
from typing import Any, Protocol, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from loadgen.clock import MS
from loadgen.record import RequestRecord

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rows = NDArray[np.intp] | None

ABSENT = int(np.iinfo(np.int64).min)
"""Stands for None in a column of integers."""

_IDS = frozenset({"request_id", "trace_id"})
"""Fields whose values are all different."""
_NARROW = np.iinfo(np.int32)


class Column(Protocol):
    """One field of many records."""

    def add(self, values: list[Any], /) -> None:
        """Append values; raises OverflowError for an integer of more than 64 bits."""

    def known(self, rows: Rows, /) -> Mask:
        """Return where the value is not None."""

    def values(self, rows: Rows, /) -> list[Any]:
        """Return the values as they were added."""


class Integers:
    """Integers or None."""

    def __init__(self) -> None:
        self._numbers = array("q")
        self._leading = 0
        """Number of Nones before the first number, as long as there is none."""

    @classmethod
    def of(cls, numbers: Ints) -> "Integers":
        """Return a column of these numbers, :data:`ABSENT` for None."""
        column = cls()
        column._numbers.frombytes(numbers.tobytes())
        return column

    def add(self, values: list[Any]) -> None:
        """Append values; raises OverflowError for an integer of more than 64 bits."""
        if not self._numbers:
            if values.count(None) == len(values):
                self._leading += len(values)
                return
            self._numbers = array("q", [ABSENT]) * self._leading
            self._leading = 0
        try:
            self._numbers.fromlist(values)
        except TypeError:
            self._numbers.fromlist([ABSENT if value is None else value for value in values])

    def ints(self, rows: Rows) -> Ints:
        """Return the numbers, :data:`ABSENT` for None."""
        if self._leading:
            return np.broadcast_to(np.int64(ABSENT), self._leading if rows is None else len(rows))
        return _read(self._numbers, rows)

    def shifted(self, by: Ints) -> "Integers":
        """Return the numbers with one added to each."""
        numbers = self.ints(None)
        return Integers.of(np.where(numbers == ABSENT, ABSENT, numbers + by))

    def known(self, rows: Rows) -> Mask:
        """Return where there is a number."""
        return np.asarray(self.ints(rows) != ABSENT)

    def values(self, rows: Rows) -> list[Any]:
        """Return the numbers as they were added."""
        return [None if value == ABSENT else value for value in self.ints(rows).tolist()]


class Reals:
    """Floats or None. None of them is nan: JSON has no way to write that."""

    def __init__(self) -> None:
        self._numbers = array("d")

    def add(self, values: list[Any]) -> None:
        """Append values."""
        self._numbers.fromlist([nan if value is None else value for value in values])

    def floats(self, rows: Rows) -> Floats:
        """Return the numbers, nan for None."""
        return _read(self._numbers, rows)

    def known(self, rows: Rows) -> Mask:
        """Return where there is a number."""
        return ~np.isnan(self.floats(rows))

    def values(self, rows: Rows) -> list[Any]:
        """Return the numbers as they were added."""
        known = self.known(rows).tolist()
        return [value if there else None for value, there in zip(self.floats(rows).tolist(), known, strict=True)]


class Words:
    """Values of which few are different, None among them: each is kept once."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._places: dict[Any, int] = {}

    def add(self, values: list[Any]) -> None:
        """Append values."""
        places = self._places
        # Most batches have one value, and hashing members of an enumeration is slow.
        if values and values.count(values[0]) == len(values):
            self._codes.extend(array("i", [places.setdefault(values[0], len(places))]) * len(values))
        else:
            self._codes.fromlist([places.setdefault(value, len(places)) for value in values])

    @property
    def words(self) -> list[Any]:
        """The different values."""
        return list(self._places)

    def codes(self, rows: Rows) -> NDArray[np.int32]:
        """Return the index of each value in :attr:`words`."""
        return _read(self._codes, rows)

    def known(self, rows: Rows) -> Mask:
        """Return where the value is not None."""
        return np.asarray(self.codes(rows) != self._places.get(None, -1))

    def equal(self, rows: Rows, values: tuple[object, ...]) -> Mask:
        """Return where the value is one of these."""
        is_wanted = np.array([word in values for word in self._places], dtype=bool)
        return is_wanted[self.codes(rows)]

    def values(self, rows: Rows) -> list[Any]:
        """Return the values as they were added."""
        words = self.words
        return [words[code] for code in self.codes(rows).tolist()]


class Texts:
    """Texts or None, all of them different: they stand one after another."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q")
        """Where each ends; of None the complement (-1 - end)."""

    def add(self, values: list[Any]) -> None:
        """Append values."""
        encoded = [b"" if value is None else value.encode("utf-8", "surrogatepass") for value in values]
        ends = list(accumulate(map(len, encoded), initial=len(self._bytes)))[1:]
        self._ends.fromlist([~end if value is None else end for value, end in zip(values, ends, strict=True)])
        self._bytes += b"".join(encoded)

    def known(self, rows: Rows) -> Mask:
        """Return where the value is not None."""
        return np.asarray(_read(self._ends, rows) >= 0)

    def values(self, rows: Rows) -> list[Any]:
        """Return the texts as they were added."""
        marked: Ints = _read(self._ends, None)
        chosen = np.arange(len(marked)) if rows is None else rows
        own, before = marked[chosen], np.where(chosen > 0, marked[chosen - 1], 0)
        starts, ends = (np.maximum(at, ~at).tolist() for at in (before, own))
        text = self._bytes
        return [
            text[start:end].decode("utf-8", "surrogatepass") if known else None
            for known, start, end in zip((own >= 0).tolist(), starts, ends, strict=True)
        ]


class TimeLists:
    """Lists of times or None: the first time of each, and the gaps, in four bytes where they are shorter than 2 s."""

    def __init__(self) -> None:
        self._firsts, self._counts = Integers(), Integers()
        self._blocks: list[NDArray[np.int32] | Ints] = []
        """The gaps of each batch, those of all its lists in a row."""
        self._first_rows: list[int] = []
        """Of each block."""
        self._starts: Ints | None = None
        """Of each list: the gaps of all lists before it; None until it is needed."""
        self._length = 0

    def add(self, values: list[Any]) -> None:
        """Append values; raises OverflowError for a time of more than 64 bits."""
        self._counts.add([None if times is None else len(times) for times in values])
        self._firsts.add([times[0] if times else None for times in values])
        if lists := [times for times in values if times]:
            flat: Ints = _read(array("q", list(chain.from_iterable(lists))), None)
            ends = np.cumsum([len(times) for times in lists])
            gaps = np.delete(np.diff(flat), ends[:-1] - 1)
            is_narrow = not len(gaps) or (gaps.min() >= _NARROW.min and gaps.max() <= _NARROW.max)
            self._blocks.append(gaps.astype(np.int32) if is_narrow else gaps)
            self._first_rows.append(self._length)
        self._length += len(values)
        self._starts = None

    def shifted(self, by: Ints) -> "TimeLists":
        """Return the lists with so much added to all times of each."""
        shifted = TimeLists()
        shifted._firsts = self._firsts.shifted(by)
        shifted._counts, shifted._blocks = self._counts, self._blocks
        shifted._first_rows, shifted._length = self._first_rows, self._length
        return shifted

    def known(self, rows: Rows) -> Mask:
        """Return where there is a list."""
        return self._counts.known(rows)

    def values(self, rows: Rows) -> list[Any]:
        """Return the lists as they were added."""
        found: list[list[int] | None] = []
        firsts, counts = self._firsts.values(rows), self._counts.values(rows)
        for first, count, gaps in zip(firsts, counts, self._gaps(rows), strict=True):
            if not count:
                found.append(None if count is None else [])
            else:
                found.append([first, *(first + np.cumsum(gaps, dtype=np.int64)).tolist()])
        return found

    def gaps_ms(self, rows: Rows) -> Floats:
        """Return all gaps, those of one list after those of another, ms."""
        if not self._blocks:
            return np.empty(0)
        found = np.empty(int(self._numbers(rows).sum()))
        at = 0
        for gaps in self._blocks if rows is None else self._gaps(rows):  # straight into place: there are millions
            found[at : at + len(gaps)] = gaps
            at += len(gaps)
        found /= MS
        return found

    def mean_gaps_ms(self, rows: Rows) -> Floats:
        """Return the mean gap of each list, ms; nan without any."""
        return np.array([fmean((gaps / MS).tolist()) if len(gaps) else nan for gaps in self._gaps(rows)])

    def _numbers(self, rows: Rows) -> Ints:
        """Return how many gaps each list has."""
        return np.asarray(np.maximum(self._counts.ints(rows), 1) - 1)

    def _gaps(self, rows: Rows) -> Iterator[NDArray[np.int32] | Ints]:
        """Yield the gaps of each list."""
        rows = np.arange(self._length) if rows is None else rows
        nothing = np.empty(0, dtype=np.int32)
        if not self._blocks:
            yield from (nothing for _ in range(len(rows)))
            return
        if self._starts is None:
            numbers = self._numbers(None)
            self._starts = np.cumsum(numbers) - numbers
        blocks = np.maximum(np.searchsorted(self._first_rows, rows, side="right") - 1, 0)
        starts = self._starts[rows] - self._starts[self._first_rows][blocks]
        places = zip(blocks.tolist(), starts.tolist(), self._numbers(rows).tolist(), strict=True)
        for block, start, number in places:
            yield self._blocks[block][start : start + number] if number else nothing


def _read(numbers: "array[Any]", rows: Rows) -> NDArray[Any]:
    """Return an array's numbers, all of them without a copy."""
    found = np.frombuffer(numbers, dtype=numbers.typecode)
    found.flags.writeable = False
    return found if rows is None else found[rows]


def _kind(hint: Any) -> type[Column]:  # noqa: ANN401 a type hint
    """Return the kind of column for a field of a type."""
    types = set(get_args(hint) or (hint,)) - {NoneType}
    if types == {int}:
        return Integers
    if types == {float}:
        return Reals
    return TimeLists if types == {list[int]} else Words


KINDS: dict[str, type[Column]] = {
    name: Texts if name in _IDS else _kind(hint) for name, hint in get_type_hints(RequestRecord).items()
}
"""The kind of column of each field of a record."""

"""The records of a run in columns.

As an object a record takes a kilobyte, and a report goes over all records some hundred times. In columns a record takes
a third of that, and arithmetic on a million of them takes milliseconds. A run is read into columns batch by batch. A
list of records gets the columns that are asked for. Objects are made again by index and by iteration.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from operator import attrgetter
from typing import Any, Protocol, TypeVar, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from loadgen.measure.columns import ABSENT, KINDS, Column, Floats, Integers, Ints, Mask, Rows, TimeLists, Words
from loadgen.metrics import PER_REQUEST, Metric
from loadgen.record import RequestRecord

Places = NDArray[np.intp]

_BATCH = 4_096
"""Objects that are made at a time where all records are iterated over."""

_OPTIONAL = frozenset(field.name for field in msgspec.structs.fields(RequestRecord) if field.default is None)
"""Fields that need not be given where they are None."""

_C = TypeVar("_C", bound=Column)


class Records(Sequence[RequestRecord]):
    """Records of a run, or a selection of them, in an order. They cannot be changed."""

    def __init__(self, source: "_Source", rows: Rows = None) -> None:
        """Take some rows of a source, in their order; all if None."""
        self._source, self._rows = source, rows

    @classmethod
    def of(cls, records: Iterable[RequestRecord]) -> "Records":
        """Return records in columns. ``Records`` are returned unchanged."""
        return records if isinstance(records, Records) else cls(_Listed(list(records)))

    def __len__(self) -> int:
        return len(self._source) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "RequestRecord | Records":
        if isinstance(index, slice):
            return Records(self._source, self._all_rows()[index])
        return self._source.made(self._all_rows()[[index]])[0]

    def __iter__(self) -> Iterator[RequestRecord]:
        rows = self._all_rows()
        for start in range(0, len(rows), _BATCH):
            yield from self._source.made(rows[start : start + _BATCH])

    def where(self, mask: Mask) -> "Records":
        """Return the records for which a mask is true."""
        return self if mask.all() else self.take(np.flatnonzero(mask))

    def where_known(self, *names: str) -> "Records":
        """Return the records in which none of some fields is None."""
        found = self
        for name in names:
            found = found.where(found.known(name))
        return found

    def take(self, places: Places) -> "Records":
        """Return the records at some places, in that order."""
        return Records(self._source, places if self._rows is None else self._rows[places])

    def sorted_by(self, name: str) -> "Records":
        """Return the records by a field of integers: None first, equal ones in the order that they had."""
        return self.take(np.argsort(self.ints(name), kind="stable"))

    def ints(self, name: str) -> Ints:
        """Return a field of integers, :data:`ABSENT` for None."""
        return self._column(name, Integers).ints(self._rows)

    def total(self, name: str) -> int:
        """Return the sum of a field of integers over the records in which it is not None."""
        numbers = self.ints(name)
        return int(numbers[numbers != ABSENT].sum())

    def known(self, name: str) -> Mask:
        """Return where a field is not None."""
        return self._source.column(name).known(self._rows)

    def values(self, name: str) -> list[Any]:
        """Return a field of all records, as objects."""
        return self._source.column(name).values(self._rows)

    def equal(self, name: str, *values: object) -> Mask:
        """Return where a field of words has one of some values."""
        return self._column(name, Words).equal(self._rows, values)

    def yes(self, name: str) -> Mask:
        """Return where a field of yes and no is yes."""
        return self._column(name, Words).equal(self._rows, (True,))

    def no(self, name: str) -> Mask:
        """Return where a field of yes and no is no."""
        return self._column(name, Words).equal(self._rows, (False,))

    def tally(self, *names: str) -> dict[Any, int]:
        """Return how often each value of a field of words occurs, in the order in which they first do.

        Of several fields the keys are tuples.
        """
        columns = [self._column(name, Words) for name in names]
        combined = np.zeros(len(self), dtype=np.int64)
        for column in columns:
            combined = combined * len(column.words) + column.codes(self._rows)
        _, first, counts = np.unique(combined, return_index=True, return_counts=True)
        order = np.argsort(first)
        found = [self.take(first[order]).values(name) for name in names]
        keys: Iterable[Any] = found[0] if len(names) == 1 else zip(*found, strict=True)
        return dict(zip(keys, counts[order].tolist(), strict=True))

    def figure(self, metric: Metric) -> Floats:
        """Return a metric of each record, nan for None."""
        found = self._source.figure(metric)
        return found if self._rows is None else found[self._rows]

    def known_figures(self, metric: Metric) -> Floats:
        """Return a metric of the records of which it is not None."""
        found = self.figure(metric)
        return found[~np.isnan(found)]

    def gaps_ms(self) -> Floats:
        """Return the gaps between chunks, of all records whose chunks have times, ms."""
        return self._column("chunk_ns", TimeLists).gaps_ms(self._rows)

    def mean_gaps_ms(self) -> Floats:
        """Return the mean gap between the chunks of each record, ms; nan without times of two chunks."""
        return self._column("chunk_ns", TimeLists).mean_gaps_ms(self._rows)

    def with_ints(self, name: str, numbers: Ints) -> "Records":
        """Return the records with another field of integers."""
        whole = self._column(name, Integers).ints(None).copy()
        whole[self._all_rows()] = numbers
        return Records(self._source.with_columns({name: Integers.of(whole)}), self._rows)

    def shifted(self, names: Iterable[str], by: Ints) -> "Records":
        """Return the records with so much added to some times of each; metrics, which are differences, stay."""
        whole = np.zeros(len(self._source), dtype=np.int64)
        whole[self._all_rows()] = by
        columns = {name: self._source.column(name) for name in names}
        shifted = {name: c.shifted(whole) for name, c in columns.items() if isinstance(c, Integers | TimeLists)}
        return Records(self._source.with_columns(shifted, keeps_figures=True), self._rows)

    def _column(self, name: str, kind: type[_C]) -> _C:
        column = self._source.column(name)
        assert isinstance(column, kind), name
        return column

    def _all_rows(self) -> Places:
        return np.arange(len(self._source)) if self._rows is None else self._rows


class _Source(Protocol):
    """Where the columns of records come from."""

    def __len__(self) -> int: ...

    def column(self, name: str) -> Column:
        """Return a field of all records."""

    def figure(self, metric: Metric) -> Floats:
        """Return a metric of all records, nan for None."""

    def made(self, rows: Places) -> Sequence[RequestRecord]:
        """Return some records as objects."""

    def with_columns(self, columns: Mapping[str, Column], *, keeps_figures: bool = False) -> "_Source":
        """Return the records with other columns in place of theirs; ``keeps_figures``: no metric depends on them."""


class _Listed:
    """Records that are objects; their columns are made when they are first used."""

    def __init__(self, records: Sequence[RequestRecord]) -> None:
        self._records = records
        self._columns: dict[str, Column] = {}
        self._figures: dict[str, Floats] = {}

    def __len__(self) -> int:
        return len(self._records)

    def column(self, name: str) -> Column:
        if name not in self._columns:
            self._columns[name] = column = KINDS[name]()
            column.add(list(map(attrgetter(name), self._records)))
        return self._columns[name]

    def figure(self, metric: Metric) -> Floats:
        if metric.key not in self._figures:
            self._figures[metric.key] = np.array(_figures(metric, self._records), dtype=float)
        return self._figures[metric.key]

    def made(self, rows: Places) -> Sequence[RequestRecord]:
        return [self._records[row] for row in rows.tolist()]

    def with_columns(self, columns: Mapping[str, Column], *, keeps_figures: bool = False) -> _Source:
        del keeps_figures
        rows = zip(*(column.values(None) for column in columns.values()), strict=True)
        changed = (dict(zip(columns, row, strict=True)) for row in rows)
        return _Listed([msgspec.structs.replace(r, **fields) for r, fields in zip(self._records, changed, strict=True)])


class RecordColumns:
    """All columns of records that are added batch by batch, and their metrics: the objects need not stay."""

    def __init__(self) -> None:
        self._columns: Mapping[str, Column] = {name: empty() for name, empty in KINDS.items()}
        self._figures: Mapping[str, array[float]] = {metric.key: array("d") for metric in PER_REQUEST}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, records: Sequence[RequestRecord]) -> None:
        """Add records; raises OverflowError if one has an integer of more than 64 bits."""
        for name, column in self._columns.items():
            column.add(list(map(attrgetter(name), records)))
        self._add_figures(records)
        self._length += len(records)

    def column(self, name: str) -> Column:
        """Return a field of all records."""
        return self._columns[name]

    def figure(self, metric: Metric) -> Floats:
        """Return a metric of all records, nan for None."""
        if not self._figures:
            self._figures = {metric.key: array("d") for metric in PER_REQUEST}
            for start in range(0, self._length, _BATCH):
                self._add_figures(self.made(np.arange(start, min(start + _BATCH, self._length))))
        found = np.frombuffer(self._figures[metric.key])
        found.flags.writeable = False
        return found

    def made(self, rows: Places) -> Sequence[RequestRecord]:
        """Return some records as objects."""
        columns = {name: column.values(rows) for name, column in self._columns.items()}
        told = {name: of for name, of in columns.items() if name not in _OPTIONAL or of.count(None) < len(of)}
        return [RequestRecord(**dict(zip(told, of, strict=True))) for of in zip(*told.values(), strict=True)]

    def with_columns(self, columns: Mapping[str, Column], *, keeps_figures: bool = False) -> "RecordColumns":
        """Return the records with other columns in place of theirs; ``keeps_figures``: no metric depends on them."""
        changed = RecordColumns()
        changed._columns, changed._length = {**self._columns, **columns}, self._length
        changed._figures = self._figures if keeps_figures else {}  # computed when one is asked for
        return changed

    def _add_figures(self, records: Sequence[RequestRecord]) -> None:
        for metric in PER_REQUEST:
            self._figures[metric.key].fromlist(_figures(metric, records))


def _figures(metric: Metric, records: Iterable[RequestRecord]) -> list[float]:
    of = metric.of
    assert of is not None, metric.key
    return [nan if (value := of(r)) is None else value for r in records]

"""A run as data: pandas data frames of its records, steps, chunks and checks, for notebooks and scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from loadgen.clock import MS
from loadgen.measure.records import Records
from loadgen.metrics import PER_REQUEST
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.results.clocks import on_one_clock
from loadgen.results.manifest import Manifest
from loadgen.results.store import read_folder
from loadgen.results.summary import summarise
from loadgen.results.summary_schema import Summary

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run that has been read. Each frame is made when it is first used."""

    manifest: Manifest
    """``run.json``."""
    recorded: Sequence[RequestRecord]
    """All records, those of the warm-up included, each on the clock of its process."""

    @cached_property
    def requests(self) -> Records:
        """All records on the clock of worker 0."""
        return on_one_clock(Records.of(self.recorded), self.manifest.workers)

    @cached_property
    def measured(self) -> Records:
        """Those of the measured phase."""
        return self.requests.where(self.requests.equal("phase", Phase.MEASURE))

    @cached_property
    def answers(self) -> Records:
        """The complete answers of the measured phase."""
        return self.measured.where(self.measured.equal("outcome", Outcome.OK))

    @cached_property
    def summary(self) -> Summary:
        """The figures, as in ``summary.json``."""
        return summarise(self.manifest, self.recorded)

    @cached_property
    def records(self) -> "pd.DataFrame":
        """One row per request: the fields of its record but ``chunk_ns``, and the metrics of ``PER_REQUEST``.

        The type of a column is that of its field, also where all values are missing, so that frames of several runs go
        together. Integers are pandas' ``Int64``: times in ns have more digits than a float.
        """
        import pandas as pd

        fields = {
            name: pd.array(msgspec.to_builtins(self.requests.values(name)), dtype=dtype)
            for name, dtype in _dtypes().items()
        }
        figures = {metric.key: self.requests.figure(metric) for metric in PER_REQUEST if metric.key not in fields}
        return pd.DataFrame(fields | figures)

    @cached_property
    def chunks(self) -> "pd.DataFrame":
        """One row per chunk of the answers that were read token by token.

        Columns: ``request_id``; ``chunk``, its index; ``arrived_ns``; ``gap_ms`` since the chunk before, NaN of the
        first one.
        """
        import pandas as pd

        ids, lists = self.requests.values("request_id"), self.requests.values("chunk_ns")
        streams = [(request_id, times) for request_id, times in zip(ids, lists, strict=True) if times]
        frame = pd.DataFrame(
            {
                "request_id": [request_id for request_id, times in streams for _ in times],
                "chunk": [index for _, times in streams for index in range(len(times))],
                "arrived_ns": pd.array([at for _, times in streams for at in times], dtype="int64"),
            }
        )
        frame["gap_ms"] = frame.groupby("request_id", sort=False)["arrived_ns"].diff() / MS
        return frame

    @cached_property
    def steps(self) -> "pd.DataFrame":
        """One row per step of a sweep; nested figures have names like ``requests_per_minute.value``."""
        import pandas as pd

        return pd.json_normalize(msgspec.to_builtins(self.summary.steps or []))

    @cached_property
    def checks(self) -> "pd.DataFrame":
        """One row per check of the verdict: id, name, status, value, limit, effect, advice."""
        import pandas as pd

        return pd.DataFrame(msgspec.to_builtins(self.summary.verdict.checks))


def read_run(folder: Path | str) -> Run:
    """Read the results folder of a run; raises DataError if its manifest or a record is not valid."""
    return Run(*read_folder(folder))


_DTYPES: Mapping[type, str] = {bool: "boolean", int: "Int64", float: "Float64", str: "string"}
"""Those of pandas that know missing values, by the type of a field."""


def _dtypes() -> dict[str, str]:
    """Return the type of each column."""
    hints = get_type_hints(RequestRecord)
    return {name: _DTYPES[_plain(hints[name])] for name in RequestRecord.__struct_fields__ if name != "chunk_ns"}


def _plain(hint: Any) -> type:  # noqa: ANN401 what an annotation may be
    """Return the type in which JSON has a field: one of those in ``_DTYPES``."""
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    if isinstance(hint, type):
        return str if issubclass(hint, str) else hint
    return _plain(next(part for part in get_args(hint) if part is not NoneType))

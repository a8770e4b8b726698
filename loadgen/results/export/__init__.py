"""A run in the file formats of other tools. One module per format, loaded when it is needed."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from loadgen.errors import DataError

if TYPE_CHECKING:
    from loadgen.results.run_data import Run


class Format(NamedTuple):
    """What ``loadgen export`` says about a format."""

    file_name: str
    """Default name of the file."""
    content: str
    """What the file is, for ``--help``."""


FORMATS = {
    "parquet": Format("records.parquet", "all records, as Parquet"),
    "csv": Format("records.csv", "all records, as CSV"),
    "vllm": Format("vllm.json", "result of `vllm bench serve`; of a sweep the folder of `vllm bench sweep serve`"),
    "benchmark-report": Format("benchmark-report.json", "llm-d's BenchmarkReport 0.2.1, of a sweep one for each step"),
}
"""Each format by its name. Its module has the same name, with ``_`` for ``-``."""


def export(run: "Run", file_format: str, path: Path) -> list[Path]:
    """Write a run in a format, and return the files that were written.

    Raises OSError, and DataError where no step of a sweep has a measured request.
    """
    module = import_module(f"{__name__}.{file_format.replace('-', '_')}")
    files: list[Path] = module.write(run, path)
    if not files:
        raise DataError(f"{run.manifest.run_id}: no step has a measured request; nothing to export as {file_format}.")
    return files

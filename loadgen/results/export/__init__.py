"""A run in the file formats of other tools. One module per format, loaded when it is needed."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadgen.results.run_data import Run

FORMATS = {"parquet": "records.parquet", "csv": "records.csv", "vllm": "vllm.json"}
"""Default file name of each format. The format's name is that of its module."""


def export(run: "Run", file_format: str, path: Path) -> None:
    """Write a run in a format; raises OSError."""
    import_module(f"{__name__}.{file_format}").write(run, path)

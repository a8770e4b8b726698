"""Records as CSV: the frame of records, empty where a value was not measured."""

from pathlib import Path

from loadgen.results.run_data import Run


def write(run: Run, path: Path) -> None:
    """Write the file. Raises OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        run.records.to_csv(file, index=False)

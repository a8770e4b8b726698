"""Records as CSV: the frame of records, empty where a value was not measured."""

from pathlib import Path

from loadgen.results.run_data import Run


def write(run: Run, path: Path) -> list[Path]:
    """Write the file, and return its path in a list; raises OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        run.records.to_csv(file, index=False)
    return [path]

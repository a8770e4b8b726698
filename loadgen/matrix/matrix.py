"""A matrix on disk: its folder, what it was asked for, and its cells."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from loadgen.errors import DataError
from loadgen.matrix.cell import Cell, Part, folder_name
from loadgen.matrix.config import Config
from loadgen.results import files, store

_CONFIG = "matrix.json"
_PREFIX = "matrix-"


class Matrix:
    """Engines x models, in a folder of its own."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config

    def cells(self) -> Iterator[Cell]:
        """Return all cells in the order in which they are measured.

        Repeats come one after the other, so that whatever drifts does so for all engines; every other one goes through
        the engines backwards.
        """
        parts = self._parts()
        for repeat in range(1, self.config.repeats + 1):
            columns = list(enumerate(self.config.engines, start=1))
            for row_number, row in enumerate(self.config.models, start=1):
                for column_number, column in columns if repeat % 2 else reversed(columns):
                    place = self.folder / "cells" / folder_name(row_number, row) / folder_name(column_number, column)
                    yield Cell(column, row, repeat, place / f"repeat-{repeat}", parts)

    def repeats_of(self, column: str, row: str) -> list[Cell]:
        """Return the cells of one engine and one model."""
        return sorted(
            (cell for cell in self.cells() if (cell.column, cell.row) == (column, row)), key=lambda cell: cell.repeat
        )

    def _parts(self) -> list[Part]:
        parts: list[Part] = []
        for asked in self.config.measure:
            parts += ["speed", "streaming"] if asked == "speed" else ["throughput"]
        return parts


def create(results: Path, config: Config, text: str) -> Matrix:
    """Create the folder of a new matrix; ``text`` is its ``matrix.toml``.

    Raises OptionError if ``results`` cannot be written.
    """
    store.check_writable(results)
    folder = results / f"{_PREFIX}{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    files.write(folder / "matrix.toml", text.encode())
    files.write(folder / _CONFIG, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    return Matrix(folder.resolve(), config)


def reopen(folder: Path | None, results: Path) -> Matrix:
    """Return the matrix in a folder, or the newest one in ``results``; raises DataError if there is none."""
    if folder is None:
        begun = sorted(path.parent for path in results.glob(f"{_PREFIX}*/{_CONFIG}"))
        if not begun:
            raise DataError(f"--resume: there is no matrix in {results}; name its folder, or its --results.")
        folder = next((path for path in reversed(begun) if (path / "cells").is_dir()), begun[-1])
    try:
        config = msgspec.json.decode((folder / _CONFIG).read_bytes(), type=Config)
    except FileNotFoundError:
        raise DataError(f"--resume {folder}: there is no matrix ({_CONFIG}).") from None
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"--resume {folder}: {error}") from None
    return Matrix(folder.resolve(), config)

"""One engine with one model, once: where it is kept, and what of it is done. The folders themselves are the record."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loadgen.errors import DataError
from loadgen.results import files, store

Part = Literal["speed", "streaming", "throughput"]

_FAILED = "failed.txt"
_BROKEN_OFF = "broken-off"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of the matrix, in one repeat."""

    column: str
    row: str
    repeat: int
    """From 1."""
    folder: Path
    parts: Sequence[Part]
    """What is to be measured of it."""

    def place_of(self, part: Part) -> Path:
        """Return the parent of a part's run folder."""
        return self.folder / part

    def run_of(self, part: Part) -> Path | None:
        """Return the run folder of a part that is done; None where it is not."""
        for folder in sorted(self.place_of(part).glob("*/")):
            if _is_whole(folder):
                return folder
        return None

    @property
    def missing(self) -> list[Part]:
        """The parts that are not done."""
        return [part for part in self.parts if self.run_of(part) is None]

    def set_aside(self, part: Part, *, whole: bool = False) -> None:
        """Put away what an interrupted run of a part has left: it is kept, and does not count.

        ``whole``: also one that came to its end, as it does where the engine had died.
        """
        for folder in sorted(self.place_of(part).glob("*/")):
            if whole or not _is_whole(folder):
                aside = self.folder / _BROKEN_OFF / part / folder.name
                aside.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(aside)

    @property
    def failure(self) -> str | None:
        """Why it could not be measured the last time it was tried; None where nothing failed."""
        try:
            return (self.folder / _FAILED).read_text().strip()
        except OSError:
            return None

    def fail(self, why: str) -> None:
        """Write down why it cannot be measured."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.folder / _FAILED, f"{why}\n".encode())

    def try_again(self) -> None:
        """Forget a failure."""
        (self.folder / _FAILED).unlink(missing_ok=True)

    @property
    def log(self) -> Path:
        """What its engine prints."""
        return self.folder / "engine.log"


def folder_name(number: int, name: str) -> str:
    """Return the name of a column's or a row's folder: unlike names stay unlike."""
    return f"{number:02}-{re.sub(r'[^a-zA-Z0-9.]+', '-', name).strip('-.')[:60]}"


def _is_whole(folder: Path) -> bool:
    """Whether a run came to its end by itself."""
    try:
        manifest = store.read_manifest(folder)
    except DataError:
        return False
    return manifest.ended is not None and manifest.ended.reason != "interrupted"

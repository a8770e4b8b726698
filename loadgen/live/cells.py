"""The progress of a calibration on standard error: a line per cell, and on a terminal what is measured now."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from loadgen.measure.envelope import Asked, Cell, streams_text


class CellProgress:
    """Follows the cells, inside a ``with``."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._line = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self._console,
            refresh_per_second=1,  # it is drawn on the cores that are being measured
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._line.add_task("starting", total=None)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Show the line, if there is a terminal to show it on."""
        self._line.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the line away."""
        self._line.stop()

    def begin(self, asked: Asked) -> None:
        """Say what is measured now."""
        self._line.update(self._task, description=f"measuring {_load(asked)}")

    def end(self, cell: Cell) -> None:
        """Say what became of it."""
        why = f": {cell.why}" if cell.why else ""
        elapsed = f"[{time.monotonic() - self._began:.0f} s]"
        self._console.print(escape(f"{elapsed} {_load(cell)}: {cell.status}{why}"))


def _load(of: Asked | Cell) -> str:
    return f"{streams_text(of.streams)} at {of.tokens_per_second:g} tokens/s each"

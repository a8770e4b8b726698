"""The progress of a calibration: a line per cell, and on a terminal what is measured now."""

from loadgen.live.status import Status
from loadgen.measure.envelope import Asked, Cell
from loadgen.printable import counted


class CellProgress(Status):
    """Follows the cells, inside a ``with``."""

    def begin(self, asked: Asked) -> None:
        """Say what is measured now."""
        self.now(f"measuring {_load(asked)}")

    def end(self, cell: Cell) -> None:
        """Say what became of it."""
        why = f": {cell.why}" if cell.why else ""
        self.say(f"{_load(cell)}: {cell.status}{why}")


def _load(of: Asked | Cell) -> str:
    return f"{counted(of.streams, 'stream')} at {of.tokens_per_second:g} tokens/s each"

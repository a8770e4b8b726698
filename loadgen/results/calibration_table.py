"""The calibration as a table: per rate what held, with the errors there, and what did not."""

from loadgen.measure.envelope import FIGURES, Cell, CellStatus, Figure, Sweep, figure_text
from loadgen.results.calibration import Calibration
from loadgen.results.table import Table
from loadgen.results.text import ABSENT, number

_NOTE = (
    "Errors and intervals in ms: of receive times against the server's log, p99 (max: the largest of too few values).\n"
    "They hold up to 1 ms or 1 % of the value, whichever is larger. Interval: how widely an arrival is known at worst."
)


def calibration_table(calibration: Calibration) -> Table:
    """Return one row per rate; why a rate ends there is said below."""
    machine = calibration.machine
    title = f"Calibrated envelope: {machine.cpu or 'unknown processor'}, {machine.cpus} cores, Python {machine.python}"
    columns = ("tokens/s", "streams", *FIGURES.values(), "interval", "req/min")
    beyond = [f"  at {sweep.tokens_per_second:g} tokens/s, {sweep.stopped}" for sweep in calibration.sweeps]
    note = "\n".join(
        [_NOTE, "tokens/s: of each stream. req/min: share of what the server could answer. Beyond:", *beyond]
    )
    return Table(title, columns, tuple(_row(sweep) for sweep in calibration.sweeps), note)


def _row(sweep: Sweep) -> tuple[str, ...]:
    held = [cell for cell in sweep.cells if cell.status is CellStatus.HELD]
    rate = f"{sweep.tokens_per_second:g}"
    if not held:
        return (rate, "none", *(ABSENT for _ in FIGURES), ABSENT, ABSENT)
    cell = max(held, key=lambda cell: cell.streams)
    share = ABSENT if cell.requests_share is None else f"{100 * cell.requests_share:.1f} %"
    figures = (_figure(cell, name) for name in FIGURES)
    return (rate, f"{cell.streams:,}", *figures, number(cell.interval_p99_ms), share)


def _figure(cell: Cell, name: str) -> str:
    found: Figure | None = getattr(cell, name)
    return ABSENT if found is None else figure_text(found)

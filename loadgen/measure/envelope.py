"""The envelope: up to how many streams, at which rates, the error of every figure was measured to stay in its limit."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

import msgspec
import numpy as np

from loadgen import metrics
from loadgen.clock import MS
from loadgen.measure import load
from loadgen.measure.records import Records
from loadgen.measure.statistics import SMALLEST_SAMPLE, percentile
from loadgen.measure.truth import Errors, Truth, errors
from loadgen.printable import counted
from loadgen.record import Outcome, Phase, RequestRecord

LIMIT_MS = 1.0
LIMIT_SHARE = 0.01
"""An error is within its limit up to 1 ms or 1 % of the true value, whichever is larger."""

RATE_SLACK = 1.05
"""Rates up to so much above count as the same: those of a run are medians of what an engine happens to give."""

LATENESS_LIMIT = 1.0
"""p99 of what the truth server is late, in gaps between two tokens. A server that has the time for its script is late
where many sends fall together, by less than a gap; one that has not falls behind by ever more of them."""

REQUESTS_LIMIT = 0.95
"""Least share of the requests that the server could answer: below it a closed loop measures the client's pauses."""

ANSWERS_FOR_A_RATE = 30
"""Fewest answers from which a rate is told."""

FIGURES = {m.key.removesuffix("_ms"): m.label for m in (metrics.TTFT, metrics.ITL, metrics.TPOT, metrics.E2E)}


class CellStatus(StrEnum):
    """What a cell says of the client."""

    HELD = "held"
    FAILED = "failed"
    SERVER_BOUND = "server-bound"
    """Nothing: the server did not keep to its script."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The error of one figure, without its sign."""

    n: int
    p99_ms: float | None
    """None where the values are too few for it."""
    largest_ms: float
    of_limit: float
    """Error over limit, value by value: its p99, or the largest where the values are too few. Up to 1 it holds."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the grid, as it was measured."""

    streams: int
    tokens_per_second: float
    """Of each stream."""
    tokens: int
    """Of each answer."""
    status: CellStatus
    why: str | None = None
    """Why it did not hold."""
    itl_share: float | None = None
    """Share of the streams that were read token by token."""
    answers: int = 0
    """Complete ones."""
    ttft: Figure | None = None
    itl: Figure | None = None
    """Of the streams that were read token by token."""
    tpot: Figure | None = None
    e2e: Figure | None = None
    interval_p99_ms: float | None = None
    """The widest interval of a request; the largest of them where they are too few for a p99."""
    outside: int | None = None
    """Answers with a time that lies outside its interval."""
    requests_share: float | None = None
    """Requests a minute as a share of what the server would have answered without any pause of the client's."""
    lateness_p99_ms: float | None = None
    """What the server was late for its own script. It is no estimate, so few tokens are enough for it."""


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """The cells of one rate, streams growing."""

    tokens_per_second: float
    cells: tuple[Cell, ...]
    stopped: str
    """Why there are no more."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Per rate the cell that held with the most streams."""

    made_at: str
    """Wall time, ISO 8601."""
    held: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a cell asks for."""

    streams: int
    tokens_per_second: float
    tokens: int
    ttft_ms: float

    @property
    def gap_ms(self) -> float:
        """Time between two tokens of a stream."""
        return 1000 / self.tokens_per_second

    def cell(self, status: CellStatus, why: str | None) -> Cell:
        """Return a cell without figures."""
        return Cell(
            streams=self.streams,
            tokens_per_second=self.tokens_per_second,
            tokens=self.tokens,
            status=status,
            why=why,
        )


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """The load of a run: streams at a time, tokens per second of each, and the share that is read token by token."""

    streams: int
    tokens_per_second: float
    itl_share: float


def judged(
    asked: Asked, itl_share: float | None, records: Sequence[RequestRecord], truths: Mapping[str, Truth]
) -> Cell:
    """Return the cell that these records make, held against the server's log."""
    measured = [r for r in records if r.phase is Phase.MEASURE]
    found = errors(measured, truths)
    count = len(found.ttft)
    gap = allowed_ms(asked.gap_ms)
    late = [ms for r in measured if r.request_id in truths for ms in lateness_ms(asked, truths[r.request_id])]
    lateness = percentile(late, 0.99) if late else None
    cell = msgspec.structs.replace(
        asked.cell(CellStatus.HELD, None),
        itl_share=itl_share,
        answers=count,
        ttft=figure(found.ttft, [allowed_ms(true) for true in found.true_ttft]),
        itl=figure(found.itl, [gap] * len(found.itl)),
        tpot=figure(found.tpot, [gap] * len(found.tpot)),
        e2e=figure(found.e2e, [allowed_ms(true) for true in found.true_e2e]),
        interval_p99_ms=_p99_or_largest(found.intervals),
        outside=found.outside if count else None,
        requests_share=_requests_share(asked, measured, found),
        lateness_p99_ms=lateness,
    )
    if lateness is not None and lateness > LATENESS_LIMIT * asked.gap_ms:
        why = f"the truth server was {lateness:.0f} ms late itself (p99)"
        return msgspec.structs.replace(cell, status=CellStatus.SERVER_BOUND, why=why)
    faults = list(_faults(cell, measured))
    return msgspec.structs.replace(cell, status=CellStatus.FAILED, why="; ".join(faults)) if faults else cell


def allowed_ms(true_ms: float) -> float:
    """Return the error that a figure of this size may have."""
    return max(LIMIT_MS, LIMIT_SHARE * true_ms)


def figure(found: Sequence[float], allowed: Sequence[float]) -> Figure | None:
    """Return the error of one figure from its values and what each may be off by; None of nothing."""
    if not found:
        return None
    sizes = [abs(error) for error in found]
    shares = [size / limit for size, limit in zip(sizes, allowed, strict=True)]
    of_limit = _p99_or_largest(shares)
    assert of_limit is not None
    return Figure(
        n=len(sizes),
        p99_ms=percentile(sizes, 0.99) if _supports_p99(sizes) else None,
        largest_ms=max(sizes),
        of_limit=of_limit,
    )


def lateness_ms(asked: Asked, truth: Truth) -> list[float]:
    """Return how late the server sent each token, by its script."""
    first = truth.received_ns + asked.ttft_ms * MS
    return [(at - first) / MS - number * asked.gap_ms for number, at in enumerate(truth.chunk_ns)]


def envelope(sweeps: Iterable[Sweep]) -> tuple[Cell, ...]:
    """Return per rate the cell that held with the most streams; a rate at which none held has none."""
    held = ([cell for cell in sweep.cells if cell.status is CellStatus.HELD] for sweep in sweeps)
    return tuple(max(cells, key=lambda cell: cell.streams) for cells in held if cells)


def stream_load(ok: Iterable[RequestRecord], users: int, itl_share: float | None) -> StreamLoad | None:
    """Return the load of a closed loop of the own client, its rate from the median TPOT; None without any."""
    ok = Records.of(ok)
    tpots = ok.where(ok.equal("client", "own")).known_figures(metrics.TPOT)
    if not len(tpots):
        return None
    return StreamLoad(users, 1000 / float(np.median(tpots)), 1.0 if itl_share is None else itl_share)


def is_inside(run: StreamLoad, held: Iterable[Cell]) -> bool:
    """Whether some cell that held had as many streams, as many tokens per second in all, and read as many one by one.

    The client's work goes by these three. A rate between two of the grid, or beyond it, is judged by its total.
    """
    rate = run.streams * run.tokens_per_second
    return any(
        run.streams <= cell.streams
        and rate <= RATE_SLACK * cell.streams * cell.tokens_per_second
        and rate * run.itl_share <= RATE_SLACK * cell.streams * cell.tokens_per_second * (cell.itl_share or 0.0)
        for cell in held
    )


def described(held: Sequence[Cell]) -> str:
    """Return an envelope in words."""
    if not held:
        return "no load held"
    first, *others = sorted(held, key=lambda cell: cell.tokens_per_second)
    text = f"{counted(first.streams, 'stream')} at up to {first.tokens_per_second:g} tokens/s each"
    return ", ".join([text, *(f"{cell.streams:,} at {cell.tokens_per_second:g}" for cell in others)])


def _faults(cell: Cell, measured: Sequence[RequestRecord]) -> Iterable[str]:
    """Yield why a cell did not hold."""
    lost = [r for r in measured if r.outcome is not Outcome.OK]
    if lost or not cell.answers:
        said = f" ({lost[0].outcome}: {lost[0].error})" if lost else ""
        yield f"{len(lost)} of {len(measured)} requests failed{said}"
    for name, label in FIGURES.items():
        error: Figure | None = getattr(cell, name)
        if error is not None and error.of_limit > 1:
            yield f"{label} off by {figure_text(error)} ms"
    if cell.outside is not None and cell.outside > LIMIT_SHARE * cell.answers:
        yield f"{cell.outside} of {cell.answers} answers outside their intervals"
    if cell.requests_share is not None and cell.requests_share < REQUESTS_LIMIT:
        yield f"{cell.requests_share:.0%} of the requests that the server could have answered"


def figure_text(error: Figure) -> str:
    """Return an error in words, ms: the p99, or the largest of too few values for one."""
    return f"max {error.largest_ms:.3f}" if error.p99_ms is None else f"{error.p99_ms:.3f}"


def _requests_share(asked: Asked, measured: Sequence[RequestRecord], found: Errors) -> float | None:
    window = load.full_window(measured, asked.streams)
    if window is None or load.answers_in(measured, window) < ANSWERS_FOR_A_RATE:
        return None
    possible = 60_000 * asked.streams / fmean(found.true_e2e)
    return load.requests_per_minute(measured, window) / possible


def _supports_p99(values: Sequence[float]) -> bool:
    return len(values) >= SMALLEST_SAMPLE["p99"]


def _p99_or_largest(values: Sequence[float]) -> float | None:
    if not values:
        return None
    return percentile(values, 0.99) if _supports_p99(values) else max(values)

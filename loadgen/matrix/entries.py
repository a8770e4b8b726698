"""A figure of the speed or the throughput table, and what stands beside it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten

from loadgen.matrix import reference
from loadgen.matrix.document import Entry, Footnotes, Words, listed
from loadgen.matrix.reference import Reference
from loadgen.matrix.result import Result
from loadgen.matrix.spread import Spread, over_runs, overlap, single
from loadgen.matrix.verdicts import Runs, runs_of
from loadgen.results.summary_schema import Figure as Value
from loadgen.results.summary_schema import Summary
from loadgen.results.text import ABSENT, digits_of, number, short

NOT_TRIED = "-"
FAILED = "failed"

_LONGEST_REASON = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The table that an entry stands in."""

    footnotes: Footnotes
    said: Sequence[str]
    """Reservations that the title has already."""
    bound: str | None
    """What the bounds are of, unless said otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one of the two tables shows."""

    key: str
    title: str
    about: str
    part: Callable[[Result], tuple[Summary, ...]]
    value: Callable[[Summary], Value | None]
    references: Mapping[tuple[str, str], Reference]
    reference_digits: int
    """After the point, as published."""
    where: Callable[["Figure"], str]
    beside: Callable[["Figure", Context], list[Words]]
    """What is said of this figure only here."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What was found for one place of a table."""

    result: Result | None
    runs: Runs | None = None
    spread: Spread | None = None
    """In the engine's own time."""

    @property
    def usable(self) -> bool:
        """Whether it may be compared with others."""
        return self.runs is not None and self.runs.usable and self.spread is not None


def figure(measure: Measure, result: Result | None) -> Figure:
    """Return the figure of one engine with one model."""
    runs = runs_of(measure.part(result)) if result is not None else None
    if result is None or runs is None:
        return Figure(result)
    return Figure(result, runs, over_runs(map(measure.value, runs.counted), 1 / result.time_factor))


def best(figures: Sequence[Figure]) -> tuple[int | None, str]:
    """Return which of a row is the highest, if that can be said, and with which others its interval overlaps."""
    able = {i: f.spread for i, f in enumerate(figures) if f.usable and f.spread}
    if len(able) < 2 or len({_reserved(figures[i]) for i in able}) > 1:  # noqa: PLR2004 nothing to compare
        return None, ""
    first = max(able, key=lambda i: able[i].value)
    near: list[str] = []
    unknown: list[str] = []
    for i, spread in able.items():
        result, mine = figures[i].result, able[first].ci95
        if i == first or result is None:
            continue
        if mine is None or spread.ci95 is None:
            unknown.append(result.engine)
        elif overlap(mine, spread.ci95):
            near.append(result.engine)
    said = []
    if near:
        said.append(f"Cannot be told apart from {listed(near)}: the 95 % intervals overlap.")
    if unknown:
        said.append(f"Not known to differ from {listed(unknown)}: an interval is missing.")
    return first, " ".join(said)


def _reserved(of: Figure) -> frozenset[str]:
    return frozenset(of.result.reservations) if of.result else frozenset()


def entry(measure: Measure, of: Figure, tie: str | None, context: Context) -> Entry:
    """Return what a table shows; ``tie``: None unless it is the best of its row, else with what it is on a par."""
    result, spread, footnotes = of.result, of.spread, context.footnotes
    if result is None:
        return Entry(ABSENT, missing=True)
    reserved = tuple(Words(text) for text in result.reservations if text not in context.said)
    if of.runs is None:
        gap = missing(result, footnotes)
        return replace(gap, marks=reserved, beside=_reference(measure, result, footnotes))
    if spread is None:
        notes = (footnotes.letter("It was run, and gave no figure: see its report."),)
        gap = Entry(ABSENT, notes, marks=of.runs.marks(footnotes) + reserved, missing=True)
        return replace(gap, beside=_reference(measure, result, footnotes))
    digits = digits_of(spread.value)
    return Entry(
        number(spread.value, digits),
        (footnotes.letter(tie),) if tie else (),
        _interval(spread, digits),
        measure.where(of),
        best=tie is not None,
        marks=of.runs.marks(footnotes) + reserved,
        beside=(*measure.beside(of, context), *_reference(measure, result, footnotes), *_repeats(spread, digits)),
    )


def missing(result: Result, footnotes: Footnotes) -> Entry:
    """Return what stands for a figure that is not there, and why."""
    if result.skipped is not None:
        return Entry(NOT_TRIED, (footnotes.letter(f"Not tried: {first_line(result.skipped)}"),), missing=True)
    if result.failed is not None:
        return Entry(FAILED, (footnotes.letter(f"Failed: {first_line(result.failed)}"),), missing=True)
    return Entry(ABSENT, missing=True)


def first_line(text: str) -> str:
    """Return the first line that says something, without what a log has for a terminal's colours."""
    lines = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]", "", text).splitlines()
    return shorten(
        next((line for line in lines if line.strip()), "no reason given"), _LONGEST_REASON, placeholder=" ..."
    )


def _interval(spread: Spread, digits: int) -> str:
    return f"[{number(spread.ci95[0], digits)}, {number(spread.ci95[1], digits)}]" if spread.ci95 else ""


def _reference(measure: Measure, result: Result, footnotes: Footnotes) -> tuple[Words, ...]:
    found = measure.references.get((result.reference, result.model)) if result.reference else None
    if found is None:
        return ()
    kind = [text for text, holds in (("later", found.since == "later"), ("disputed", found.disputed)) if holds]
    text = f"reference {number(found.value, measure.reference_digits)}" + (f" ({', '.join(kind)})" if kind else "")
    return (Words(text, (footnotes.letter(f"Disputed: {found.disputed}."),) if found.disputed else ()),)


def _repeats(spread: Spread, digits: int) -> tuple[Words, ...]:
    if spread.runs == 1:
        return ()
    runs = f"{spread.runs} runs: {number(spread.lowest, digits)} to {number(spread.highest, digits)}"
    found = [] if spread.cv is None else [f"CV {100 * spread.cv:.2g} %"]
    found += [f"interval {'between' if spread.between else 'within'} runs"] if spread.ci95 else []
    return Words(runs), Words(", ".join(found))


def _bound(of: Figure, context: Context) -> list[Words]:
    """Return how much it is of what the memory bandwidth allows."""
    if of.result is None or of.spread is None or not of.result.bound:
        return []
    share, text = of.spread.value / of.result.bound, of.result.bound_text
    notes = [f"The bound is that of {text}."] if text and text != context.bound else []
    if share > 1:
        notes.append("More than the bound allows: weights or GPUs are not those that it was made of.")
    said = f"{100 * share:.0f} % of bound {number(of.result.bound, 1)}"
    return [Words(said, tuple(map(context.footnotes.letter, notes)))]


def _users(of: Figure) -> str:
    found = [s.throughput for s in of.runs.counted if s.throughput] if of.runs else []
    at = sorted({best.at_concurrency for best in found if best.requests_per_minute and best.at_concurrency})
    return f"at {listed([f'{count:,}' for count in at])} user{'' if at == [1] else 's'}"


def _tokens(of: Figure, _: Context) -> list[Words]:
    """Return how many output tokens/s that throughput was."""
    if of.result is None or of.runs is None:
        return []
    found = [single(None if s.throughput is None else s.throughput.output_tokens_per_second) for s in of.runs.counted]
    spread = over_runs(found, 1 / of.result.time_factor)
    return [] if spread is None else [Words(f"{short(spread.value)} output tokens/s")]


SPEED = Measure(
    key="speed",
    title="Speed, output tokens/s of one user",
    about="Output tokens over the full round trip of a request, mean over requests; one user, answers not streamed.",
    part=lambda result: result.speed,
    value=lambda summary: None if summary.speed is None else summary.speed.tokens_per_second_mean,
    references=reference.SPEED,
    reference_digits=2,
    where=lambda _: "",
    beside=_bound,
)
THROUGHPUT = Measure(
    key="throughput",
    title="Throughput, requests/min",
    about="The best step of a closed loop of ever more users, each of whom waits for an answer before asking again.",
    part=lambda result: result.throughput,
    value=lambda summary: None if summary.throughput is None else summary.throughput.requests_per_minute,
    references=reference.THROUGHPUT,
    reference_digits=1,
    where=_users,
    beside=_tokens,
)

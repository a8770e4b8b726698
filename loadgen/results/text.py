"""How numbers and sentences are written, the same in every report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadgen.measure.statistics import Distribution
from loadgen.results.manifest import Manifest
from loadgen.results.summary_schema import Figure, Summary

ABSENT = "\N{EN DASH}"


def number(value: float | None, digits: int = 2) -> str:
    """Write a number, or the dash of what was not measured."""
    return ABSENT if value is None else f"{value:,.{digits}f}"


def percentile(of: Distribution | None, name: str, write: Callable[[float | None], str] | None = None) -> str:
    """Write a percentile, or ``n<368`` where its number of values does not support it; also the mean and the largest.

    ``write``: how the number is written; with two digits after the point if None.
    """
    if of is None or not of.n:
        return ABSENT
    value = of.percentile(name)
    if value is None and name in (of.needs or {}):
        return f"n<{(of.needs or {})[name]}"
    return (write or number)(value)


def few_note(rows: Sequence[Sequence[str]]) -> str:
    """Return what a table says of percentiles that :func:`percentile` has left out; empty if it has them all."""
    is_few = any(cell.startswith("n<") for row in rows for cell in row)
    return "n<N: fewer than the N effectively independent values that this percentile needs." if is_few else ""


def estimate(value: Figure | None, digits: int = 2) -> str:
    """Write an estimate with its 95 % interval."""
    if value is None or value.value is None:
        return ABSENT
    text, ci = number(value.value, digits), value.ci95
    return f"{text} [{number(ci[0], digits)}, {number(ci[1], digits)}]" if ci else text


def short(value: float | None) -> str:
    """Write a number in about four digits."""
    return number(value, digits_of(value))


def short_estimate(value: Figure | None) -> str:
    """Write an estimate with its interval, in about four digits each."""
    return estimate(value, digits_of(None if value is None else value.value))


def digits_of(value: float | None) -> int:
    """Return how many digits after the point make about four."""
    size = abs(value or 0)
    return 0 if size >= 1_000 else 1 if size >= 100 else 2  # noqa: PLR2004 as written above


def percent(value: Figure | None) -> str:
    """Write a share with its 95 % interval."""
    if value is None or value.value is None:
        return ABSENT
    ci = value.ci95
    interval = f" [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]" if ci else ""
    return f"{100 * value.value:.1f} %{interval}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a run is of: said in the first line of every output."""

    model: str
    engine: str
    dataset: str | None
    simulated: bool
    embedded: str | None
    weights: str | None
    time_factor: float | None
    client: str | None
    proxy: str | None

    @property
    def title(self) -> str:
        """The first line of every report: what was asked, of what, and whether it was real."""
        line = f"{self.model} on {self.engine}, prompts: {self.dataset}"
        return f"{line} ({', '.join(self.reservations)})" if self.reservations else line

    @property
    def reservations(self) -> list[str]:
        """What every output of the run has to say of itself."""
        found = []
        if self.simulated:
            found.append("SIMULATED")
            if (factor := self.time_factor or 1) != 1:
                found.append(f"{factor:g} times as fast")
        if self.embedded:
            found.append(self.embedded)
        if self.weights == "random":
            found.append("random weights")
        if self.client == "openai":
            found.append("through the openai SDK")
        if self.proxy:
            found.append(f"through the proxy {self.proxy}")
        return found


def subject_of(summary: Summary) -> Subject:
    """Return what a run that has ended is of."""
    launched = summary.launched
    return Subject(
        model=summary.model,
        engine=summary.engine,
        dataset=summary.dataset,
        simulated=summary.simulated,
        embedded=summary.embedded,
        weights=None if launched is None else launched.weights,
        time_factor=None if launched is None else launched.time_factor,
        client=summary.client,
        proxy=summary.proxy,
    )


def subject_of_manifest(manifest: Manifest) -> Subject:
    """Return what a run is of that has no summary yet."""
    launched = manifest.launched
    return Subject(
        model=manifest.model,
        engine=manifest.engine,
        dataset=manifest.dataset.get("name"),
        simulated=manifest.simulated,
        embedded=manifest.embedded,
        weights=None if launched is None else launched.weights,
        time_factor=None if launched is None else launched.options.get("time_factor"),
        client=manifest.scenario.get("client"),
        proxy=manifest.server.get("proxy"),
    )

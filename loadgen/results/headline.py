"""The headline of a run: its main figure in one line, with the interval and what it is of, and the figures next to it.

Every report, the terminal and the live page of an ended run begin with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadgen.metrics import (
    FROM_SEND,
    LIMITS,
    OUTPUT_TOKENS_PER_SECOND,
    REQUESTS_PER_MINUTE,
    TOKENS_PER_SECOND,
    Metric,
)
from loadgen.printable import counted
from loadgen.results.summary_schema import Figure, Goodput, Latency, Summary, ThroughputSummary
from loadgen.results.text import ABSENT, number, short

NO_INTERVAL = "no 95 % interval"


@dataclass(frozen=True, slots=True)
class Headline:
    """The main figure of a run, in words."""

    figure: str
    """Value and unit; a dash in place of a value that was not measured."""
    interval: str
    """``95 % interval 40.1 to 42.3``, or :data:`NO_INTERVAL`; empty where there is no figure."""
    of: str
    """What the figure is of, as in ``one user, mean over 100 requests``."""
    figures: tuple[tuple[str, str], ...]
    """Related figures as names and values; only measured ones."""

    @property
    def text(self) -> str:
        """The figure in one line."""
        interval = f" ({self.interval})" if self.interval else ""
        return f"{self.figure}{interval}: {self.of}"


def headline(summary: Summary) -> Headline:
    """Return the headline of a run."""
    return _HEADLINES[summary.kind](summary)


def _speed(summary: Summary) -> Headline:
    assert summary.speed is not None
    mean = summary.speed.tokens_per_second_mean
    users = "users changed during the run" if summary.users_changed else "one user"
    of = f"{users}, full round trip, mean over {counted(mean.n if mean else 0, 'request')}"
    return _headline(mean, TOKENS_PER_SECOND, of, [*_latencies(summary.latency), _failed(summary)])


def _throughput(summary: Summary) -> Headline:
    best = summary.throughput
    assert best is not None
    if best.at_concurrency is None:
        of = "no number of users was kept long enough"
    elif summary.is_sweep:
        of = f"highest throughput, {_at(best)}"
    else:
        of = counted(best.at_concurrency, "user")
    if best.requests_per_minute is None and summary.is_sweep:
        of = "no step was steady and long enough"
    elif not summary.is_sweep and (best.requests_per_minute is None or best.requests_per_minute.value is None):
        of += ", never all active for three round trips"
    latency = (best.latency or {}) if summary.is_sweep else summary.latency
    where = f" at {counted(best.at_concurrency or 0, 'user')}" if len(best.plateau) > 1 else ""
    figures = [
        (OUTPUT_TOKENS_PER_SECOND.label, short(best.output_tokens_per_second)),
        *_latencies(latency, where=where),
    ]
    if best.goodput is not None:
        figures.append((f"within {best.goodput.slo}", _good(best.goodput)))
    if best.knee is not None:
        figures.append(("knee", _users_between(best.knee.between)))
    return _headline(best.requests_per_minute, REQUESTS_PER_MINUTE, of, [*figures, _failed(summary)])


def _at(best: ThroughputSummary) -> str:
    """Say at how many users throughput is highest; where it is the mean of several steps, of which."""
    if len(best.plateau) < 2:  # noqa: PLR2004 one step is no mean
        return f"at {counted(best.at_concurrency or 0, 'user')}"
    *first, last = (f"{users:,}" for users in best.plateau)
    return f"mean of the steps of {', '.join(first)} and {last} users"


def _good(goodput: Goodput) -> str:
    at = f" at {counted(goodput.at_concurrency, 'user')}" if goodput.at_concurrency else ""
    return f"{short(goodput.requests_per_minute)} {REQUESTS_PER_MINUTE.label}{at}"


def _failed(summary: Summary) -> tuple[str, str]:
    requests = summary.requests
    ended = requests.completed + requests.failed
    return "failed", f"{requests.failed:,} of {counted(ended, 'request')}"


def _rate(summary: Summary) -> Headline:
    rate = summary.rate
    assert rate is not None
    arrivals = rate.process.capitalize() if rate.process == "poisson" else rate.process
    of = f"served; {60 * rate.asked_per_second:,.6g} {REQUESTS_PER_MINUTE.label} were asked for, {arrivals} arrivals"
    figures = [
        (OUTPUT_TOKENS_PER_SECOND.label, short(rate.output_tokens_per_second)),
        *_latencies(rate.latency_from_schedule, origin=" from the schedule"),
    ]
    if rate.goodput is not None:
        figures.append((f"within {rate.goodput.slo}", _good(rate.goodput)))
    figures.append(("answered", f"{summary.requests.completed:,} of {counted(rate.scheduled, 'scheduled request')}"))
    return _headline(rate.requests_per_minute, REQUESTS_PER_MINUTE, of, figures)


_HEADLINES: Mapping[str, Callable[[Summary], Headline]] = {
    "speed": _speed,
    "throughput": _throughput,
    "rate": _rate,
}
"""By the kind of a run."""


def _headline(value: Figure | None, metric: Metric, of: str, figures: list[tuple[str, str]]) -> Headline:
    measured = tuple((name, text) for name, text in figures if text != ABSENT)
    if value is None or value.value is None:
        return Headline(f"{ABSENT} {metric.label}", "", of, measured)
    interval = NO_INTERVAL if value.ci95 is None else f"95 % interval {_span(value.value, value.ci95)}"
    return Headline(f"{short(value.value)} {metric.label}", interval, of, measured)


def _span(value: float, ci95: tuple[float, float]) -> str:
    """Write both ends with as many digits as the value has."""
    digits = len(short(value).partition(".")[2])
    return f"{number(ci95[0], digits)} to {number(ci95[1], digits)}"


def _latencies(latency: Latency, *, origin: str = "", where: str = "") -> list[tuple[str, str]]:
    """Return the medians of what a user waits for.

    ``origin``: where figures that count from the send begin, if not there; ``where``: of which step they are.
    """
    return [
        (f"{metric.label} p50{origin if metric in FROM_SEND else ''}{where}", f"{short(median)} {metric.unit}")
        for metric in LIMITS
        if metric.key in latency and (median := latency[metric.key].p50) is not None
    ]


def _users_between(between: tuple[int, int]) -> str:
    low, high = between
    return f"between {low:,} and {counted(high, 'user')}" if low else f"at or below {counted(high, 'user')}"

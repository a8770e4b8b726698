"""The figures of an open loop: what was asked for, what came of it, and latencies from the schedule and the send."""

from collections.abc import Iterable
from math import ceil
from typing import Any

from msgspec.structs import asdict, replace

from loadgen.clock import MS
from loadgen.measure.columns import Floats
from loadgen.measure.episodes import ENOUGH as ENOUGH_EPISODES
from loadgen.measure.episodes import episodes
from loadgen.measure.facts import Arrivals
from loadgen.measure.intervals import distribution_of_series
from loadgen.measure.load import Spans, Window, edges_of
from loadgen.measure.records import Records
from loadgen.measure.statistics import Distribution, percentile
from loadgen.measure.steady import Steadiness, steady
from loadgen.metrics import FROM_SEND
from loadgen.record import Outcome, RequestRecord
from loadgen.results.steps import NOTHING_SERVED, goodput, served
from loadgen.results.summary_schema import Rate
from loadgen.slo import Slo

BINS = 400
"""The schedule is looked at in so many bins, to see when the engine has become steady."""


FEWEST_OBSERVED = 100
"""Fewest requests of which one in a hundred can be told."""


def window_of(arrivals: Arrivals, measured: Iterable[RequestRecord]) -> tuple[Window | None, Steadiness]:
    """Return the part of a schedule in which the engine was steady, and whether it was.

    It begins where the start no longer shows, and ends with the last time of the schedule: the drain is outside.
    """
    measured = Records.of(measured)
    due = measured.where_known("scheduled_ns").ints("scheduled_ns")
    if arrivals.epoch_ns is None or len(due) < 2:  # noqa: PLR2004 two ends
        return None, Steadiness(None, None)
    whole = Window(arrivals.epoch_ns, int(due.max()))
    edges = edges_of(whole, max(1, (whole.end - whole.start) // BINS))
    spans = Spans.of(measured)
    state = steady({"requests in flight": spans.in_flight(edges)})
    start = edges[len(edges) // 2] if state.cut is None else edges[state.cut]
    return Window(int(start), whole.end), state


def rate(arrivals: Arrivals, measured: Iterable[RequestRecord], slo: Slo | None) -> Rate:
    """Return the figures; latencies are of requests due in the window of ``arrivals``, those that failed left out."""
    measured = Records.of(measured)
    about: dict[str, Any] = {
        "asked_per_second": arrivals.rate,
        "process": arrivals.process,
        "cv": arrivals.cv,
        "max_in_flight": arrivals.max_in_flight,
        "scheduled": int(measured.known("scheduled_ns").sum()),
        "dropped": int(measured.equal("outcome", Outcome.DROPPED).sum()),
        "unsteady": arrivals.unsteady,
        "undecided": arrivals.undecided,
    }
    if arrivals.window_ns is None:
        return Rate(
            **about,
            **asdict(NOTHING_SERVED),
            queueing_episodes=None,
            run_time_needed_s=None,
            latency_from_schedule={},
            latency_from_send={},
            send_lag_ms=None,
            goodput=None,
        )
    window = Window(*arrivals.window_ns)
    due, on_schedule = _due(window, measured), by_schedule(measured)
    sent, due_by_schedule = due.where_known("sent_ns"), _due(window, on_schedule)
    seen = episodes(Spans.of(measured).in_flight(edges_of(window, max(1, (window.end - window.start) // BINS))))
    return Rate(
        **about,
        **asdict(served(window, measured, closed_loop=False)),
        queueing_episodes=round(seen, 1),
        run_time_needed_s=None if seen >= ENOUGH_EPISODES else _time_needed(window, seen),
        latency_from_schedule=_latency(due_by_schedule, seen),
        latency_from_send=_latency(due, seen),
        send_lag_ms=_of((sent.ints("sent_ns") - sent.ints("scheduled_ns")) / MS),
        # By the schedule, as all of an open loop; dropped ones are due, too, and kept no limit.
        goodput=goodput(window, on_schedule, due_by_schedule, slo),
    )


def _due(window: Window, measured: Records) -> Records:
    """Return the requests that were due in a window, in the order of the schedule."""
    scheduled = measured.where_known("scheduled_ns")
    at = scheduled.ints("scheduled_ns")
    return scheduled.where((window.start <= at) & (at < window.end)).sorted_by("scheduled_ns")


def by_schedule(records: Records) -> Records:
    """Return records whose latencies count from the schedule."""
    return records.with_ints("sent_ns", records.ints("scheduled_ns"))


def _time_needed(window: Window, seen: float) -> int | None:
    """Return the seconds in which the run would have seen enough episodes; None where it saw none."""
    return ceil(window.seconds * ENOUGH_EPISODES / seen) if seen else None


def _latency(due: Records, seen: float) -> dict[str, Distribution]:
    """Return what counts from the send; without intervals where too few episodes of the queue were seen."""
    found = {metric.key: _of(due.known_figures(metric)) for metric in FROM_SEND}
    if seen < ENOUGH_EPISODES:
        found = {name: replace(of, ci95={}) if of.n else of for name, of in found.items()}
    return found


def _of(values: Floats) -> Distribution:
    """Return their distribution, and the largest: a stall shows there even if it happens but once."""
    found = distribution_of_series(values)
    if not len(values):
        return found
    largest = float(values.max())
    # What these requests met, one stall of the server included; it is no estimate of what others would.
    if len(values) < FEWEST_OBSERVED:
        return replace(found, max=largest, needs={**(found.needs or {}), "observed_p99": FEWEST_OBSERVED})
    return replace(found, max=largest, observed_p99=percentile(values, 0.99))

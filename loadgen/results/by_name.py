"""The figures of a run by the names that users' code gives its requests."""

from collections.abc import Sequence
from typing import Any

from loadgen.measure.evidence import Evidence
from loadgen.measure.latency import latency
from loadgen.measure.load import Window
from loadgen.measure.names import OTHER, most_frequent
from loadgen.measure.statistics import distribution
from loadgen.record import Outcome, RequestRecord
from loadgen.results import steps
from loadgen.results.counts import requests, tokens
from loadgen.slo import Slo

Summary = dict[str, Any]


def by_name(evidence: Evidence, window: Window | None, slo: Slo | None) -> Summary:
    """Return the figures of each name, the most frequent first and :data:`OTHER` last.

    ``requests`` and ``tokens`` are those of the whole run, and so is ``latency``. Only of a run with several steps,
    whose latencies at different loads are not mixed, ``latency`` is of the requests sent in ``window``.

    ``window``: where the throughput of the run was measured; None if it has none. In it each name has the figures that
    a step has, and its ``share`` of the answers.
    """
    groups = _grouped(evidence.measured)
    figures = {name: _figures(measured, evidence, window, slo) for name, measured in groups.items()}
    _add_shares(figures)
    return figures


def _figures(measured: Sequence[RequestRecord], evidence: Evidence, window: Window | None, slo: Slo | None) -> Summary:
    ok = [r for r in measured if r.outcome is Outcome.OK]
    thinks = evidence.thinks
    in_window: Summary = {}
    if window is not None:
        in_window = steps.served(window, measured, thinks=thinks)
        in_window |= steps.of_those_sent(window, measured, slo, thinks=thinks)
    latency_in_window = in_window.pop("latency", {})
    return {
        "requests": requests(measured, all_known=evidence.started is not None),
        "latency": latency_in_window if len(evidence.steps) > 1 else latency(ok, distribution),
        "tokens": tokens(ok),
    } | ({"window": in_window} if in_window else {})


def _grouped(measured: Sequence[RequestRecord]) -> dict[str, list[RequestRecord]]:
    """Return the records of each name that is shown, those of all other names together."""
    groups: dict[str, list[RequestRecord]] = {name: [] for name in most_frequent(r.name for r in measured)}
    others: list[RequestRecord] = []
    for r in measured:
        groups.get(r.name or OTHER, others).append(r)
    return groups | ({OTHER: others} if others else {})


def _add_shares(figures: Summary) -> None:
    """Add to each name its share of the answers that were served in the window."""
    windows = [of_name["window"] for of_name in figures.values() if "window" in of_name]
    answers = sum(window["answers"] for window in windows)
    for window in windows:
        window["share"] = window["answers"] / answers if answers else None

"""The figures of a run by the names that users' code gives its requests."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from loadgen.measure.evidence import Evidence
from loadgen.measure.latency import latency
from loadgen.measure.load import Window
from loadgen.measure.names import OTHER, most_frequent
from loadgen.measure.records import Records
from loadgen.measure.statistics import distribution
from loadgen.record import Outcome
from loadgen.results import steps
from loadgen.results.counts import requests, tokens
from loadgen.results.summary_schema import NameSummary, NameWindow
from loadgen.slo import Slo


def by_name(evidence: Evidence, window: Window | None, slo: Slo | None) -> dict[str, NameSummary]:
    """Return the figures of each name, the most frequent first and :data:`OTHER` last.

    ``requests`` and ``tokens`` are those of the whole run, and so is ``latency``. Only of a run with several steps,
    whose latencies at different loads are not mixed, ``latency`` is of the requests sent in ``window``.

    ``window``: where the throughput of the run was measured; None if it has none. In it each name has the figures that
    a step has, and its ``share`` of the answers.
    """
    groups = _grouped(evidence.measured)
    return _with_shares({name: _figures(measured, evidence, window, slo) for name, measured in groups.items()})


def _figures(measured: Records, evidence: Evidence, window: Window | None, slo: Slo | None) -> NameSummary:
    ok = measured.where(measured.equal("outcome", Outcome.OK))
    thinks, has_steps = evidence.thinks, len(evidence.steps) > 1
    in_window, latency_in_window = None, {}
    if window is not None:
        sent = steps.of_those_sent(window, measured, slo, thinks=thinks, whole=None if has_steps else {})
        latency_in_window = sent.pop("latency")
        # The answers of a name wait for those of others: only all of them are a closed loop.
        served = msgspec.structs.asdict(steps.served(window, measured, thinks=thinks, closed_loop=False))
        in_window = NameWindow(**served, **sent, share=None)
    return NameSummary(
        requests=requests(measured, all_known=evidence.started is not None),
        latency=latency_in_window if has_steps else latency(ok, distribution),
        tokens=tokens(ok),
        window=in_window,
    )


def _grouped(measured: Records) -> dict[str, Records]:
    """Return the records of each name that is shown, those of all other names together."""
    names = most_frequent(measured.tally("name"))
    groups = {name: measured.where(measured.equal("name", name)) for name in names}
    others = measured.where(~measured.equal("name", *names))
    return groups | ({OTHER: others} if others else {})


def _with_shares(figures: Mapping[str, NameSummary]) -> dict[str, NameSummary]:
    """Return the figures, each name's with its share of the answers that were served in the window."""
    answers = sum(of_name.window.answers or 0.0 for of_name in figures.values() if of_name.window is not None)
    return {
        name: of_name
        if of_name.window is None or not answers
        else replace(of_name, window=replace(of_name.window, share=(of_name.window.answers or 0.0) / answers))
        for name, of_name in figures.items()
    }

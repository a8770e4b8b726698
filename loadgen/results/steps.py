"""The throughput of a run, step by step, and what follows from all steps: the best of them, and the knee."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from loadgen.measure import knee
from loadgen.measure.facts import StepFacts
from loadgen.measure.goodput import meeting
from loadgen.measure.intervals import distribution_of_series, effective_sample_size, share
from loadgen.measure.latency import latency
from loadgen.measure.limits import ATTAINMENT
from loadgen.measure.load import Spans, Window, belonging_to, edges_of
from loadgen.measure.records import Records
from loadgen.measure.statistics import Distribution, Estimate
from loadgen.measure.throughput import Bins
from loadgen.measure.throughput import throughput as throughput_of
from loadgen.measure.verdict import Verdict
from loadgen.metrics import LIMITS
from loadgen.record import Outcome, RequestRecord
from loadgen.results.summary_schema import Figure, Goodput, KneeSummary, Latency, Served, StepSummary, ThroughputSummary
from loadgen.slo import Slo

BINS = 200
"""A window is looked at in so many bins for its intervals: twenty times the ten batches that they need."""


def step(
    facts: StepFacts,
    measured: Iterable[RequestRecord],
    slo: Slo | None,
    verdict: Verdict,
    *,
    thinks: bool = False,
    whole: Latency | None = None,
) -> StepSummary:
    """Return the figures of one step; ``measured``: all measured records of the run, on one clock.

    Throughput is of all that was served in the window, latencies are of the requests sent in it: none is left out for
    being long. ``thinks``: whether users think between their requests; ``whole``: the latencies of the whole run, where
    they are shown in place of the window's.
    """
    measured = Records.of(measured)
    about: dict[str, Any] = {
        "step": facts.number,
        "concurrency": facts.concurrency,
        "steady": None if facts.window_ns is None or facts.undecided else facts.unsteady is None,
        "unsteady": facts.unsteady,
        "undecided": facts.undecided,
        "ended_by": facts.ended_by,
        "verdict": verdict,
        "energy": None,
    }
    if facts.window_ns is None:
        return StepSummary(**about, **msgspec.structs.asdict(NOTHING_SERVED), latency={}, goodput=None)
    window = Window(*facts.window_ns)
    found = msgspec.structs.asdict(served(window, measured, thinks=thinks))
    return StepSummary(**about, **found, **of_those_sent(window, measured, slo, thinks=thinks, whole=whole))


NOTHING_SERVED = Served(
    window_seconds=None, requests_per_minute=None, output_tokens_per_second=None, output_tokens_per_second_ci95=None
)
"""Of what has no window."""


def served(
    window: Window, measured: Iterable[RequestRecord], *, thinks: bool = False, closed_loop: bool = True
) -> Served:
    """Return what was served in a window, with 95 % intervals; of users who think also their mean think time.

    ``rough`` tells intervals of a window of a few round trips from those by batch means, ``no_interval`` why there is
    none. ``closed_loop``: whether ``measured`` are all records of a closed loop, which rough intervals need.
    """
    edges = edges_of(window, max(1, (window.end - window.start) // BINS))
    measured = Records.of(measured)
    bins = Bins.of(measured.where(measured.ints("end_ns") > window.start), edges, cycles=thinks)
    found = throughput_of(bins, closed_loop=closed_loop)
    per_minute, per_second = found.requests_per_minute, found.tokens_per_second
    nothing = Figure(value=None, ci95=None, n=round(found.answers))
    return Served(
        window_seconds=window.seconds,
        round_trips=round(found.round_trips, 2),
        answers=round(found.answers, 1),
        requests_per_minute=nothing if per_minute is None else shown(per_minute),
        output_tokens_per_second=None if per_second is None else per_second.value,
        output_tokens_per_second_ci95=None if per_second is None else per_second.ci95,
        rough=found.is_rough,
        no_interval=found.no_interval,
        think_ms=1_000 * bins.mean_think_s if thinks else None,
    )


def of_those_sent(
    window: Window, measured: Records, slo: Slo | None, *, thinks: bool = False, whole: Latency | None = None
) -> dict[str, Any]:
    """Return latencies, failures and goodput of a window's requests, including those that could not be sent.

    The keys are fields of ``StepSummary``. ``whole``: latencies that are shown in place of the window's.
    """
    sent = belonging_to(window, measured)
    ok = sent.where(sent.equal("outcome", Outcome.OK))
    return {
        "requests": len(sent),
        "failed": len(sent) - len(ok),
        "latency": latency(ok, distribution_of_series) if whole is None else whole,
        "goodput": goodput(window, measured, sent, slo, thinks=thinks),
    }


def throughput(steps: Sequence[StepSummary], concurrency: int | None) -> ThroughputSummary:
    """Return the highest throughput, at how few users it is reached, where it stops growing, and the latency at both.

    Steps that were not steady take no part in it, nor those without a figure. ``concurrency``: the users where no step
    has a figure; None where their number was changed during the run.
    """
    known = [s for s in steps if value_of(s) is not None and s.steady is not False]
    if not known:
        return ThroughputSummary(
            requests_per_minute=None,
            at_concurrency=concurrency,
            plateau=[],
            output_tokens_per_second=None,
            latency=None,
            knee=None,
            goodput=None,
        )
    rates = [s.requests_per_minute or NO_FIGURE for s in known]
    points = [(s.concurrency, rate.value or 0.0, _ci95(s)) for s, rate in zip(known, rates, strict=True)]
    top = knee.plateau(points)
    highest = [known[i] for i in top.steps]
    tokens = [s.output_tokens_per_second for s in highest]
    at = min(s.concurrency for s in highest)
    ci95 = top.ci95 or _rough_ci95(top.value, [rates[i] for i in top.steps])
    return ThroughputSummary(
        requests_per_minute=Figure(value=top.value, ci95=ci95, n=sum(rates[i].n for i in top.steps)),
        at_concurrency=at,
        plateau=sorted(s.concurrency for s in highest),
        output_tokens_per_second=None
        if None in tokens
        else sum(weight * (value or 0.0) for weight, value in zip(top.weights, tokens, strict=True)),
        latency=_latency_at(known, at),
        knee=_knee(known, points),
        goodput=_best_goodput(known),
    )


NO_FIGURE = Figure(value=None, ci95=None, n=0)


def _knee(steps: Sequence[StepSummary], points: Sequence[knee.Step]) -> KneeSummary | None:
    found = knee.knee(points)
    if found is None:
        return None
    return KneeSummary(
        between=found.between,
        highest=found.highest,
        per_user=found.per_user,
        operational=found.operational,
        text=found.text,
        latency=_latency_at(steps, found.between[1]),
    )


def _ci95(step: StepSummary) -> tuple[float, float] | None:
    """Return the interval of a step's throughput; None where it is rough, so that other steps decide what is highest.

    The highest of several rough values is too high by chance, more than that of well-known ones.
    """
    return None if step.rough or step.requests_per_minute is None else step.requests_per_minute.ci95


def _rough_ci95(value: float, rates: Sequence[Figure]) -> tuple[float, float] | None:
    """Return the narrowest of some rough intervals, around their mean; None where there is none."""
    known = [(rate.ci95, rate.value) for rate in rates if rate.ci95 is not None and rate.value]
    shares = [(low / of, high / of) for (low, high), of in known]
    if not shares:
        return None
    low, high = min(shares, key=lambda ends: ends[1] - ends[0])
    return value * low, value * high


def _latency_at(steps: Sequence[StepSummary], users: int) -> dict[str, Distribution]:
    """Return the distributions that may be limited of the step with so many users, as they are in that step."""
    of_step = next(s for s in steps if s.concurrency == users).latency
    return {metric.key: of_step[metric.key] for metric in LIMITS if metric.key in of_step}


def value_of(step: StepSummary) -> float | None:
    """Return the requests/min of a step, None where it has none."""
    return None if step.requests_per_minute is None else step.requests_per_minute.value


def _best_goodput(steps: Sequence[StepSummary]) -> Goodput | None:
    """Return the most that was served within the limits, among steps that keep them often enough."""
    kept = [(s.goodput, s.concurrency) for s in steps if s.goodput and (s.goodput.share.value or 0.0) >= ATTAINMENT]
    if not kept:
        return None
    best, users = max(kept, key=lambda pair: pair[0].requests_per_minute)
    return msgspec.structs.replace(best, at_concurrency=users)


def goodput(
    window: Window,
    measured: Records,
    sent: Records,
    slo: Slo | None,
    *,
    thinks: bool = False,
) -> Goodput | None:
    """Return how much was served within the limits, and by how many requests they were kept; None without limits.

    ``measured``: all records, of which the good ones count as they do for throughput, so that goodput never exceeds it;
    ``sent``: those sent in the window, in order, which are what the share is of.
    """
    if slo is None or not sent:
        return None
    good = meeting(sent, slo)
    n_eff = effective_sample_size(good)
    edges = np.array([window.start, window.end], dtype=np.int64)
    spans = Spans.of_cycles if thinks else Spans.of_service
    spread = spans(measured.where(meeting(measured, slo)))
    return Goodput(
        requests_per_minute=60 * float(spread.answers_served(edges)[0]) / window.seconds,
        share=shown(share(int(good.sum()), len(good), n_eff)),
        slo=slo.text,
    )


def shown(estimate: Estimate) -> Figure:
    """Return an estimate as it stands in ``summary.json``."""
    return Figure(value=estimate.value, ci95=estimate.ci95, n=estimate.n)

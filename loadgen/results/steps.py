"""The throughput of a run, step by step, and what follows from all steps: the best of them, and the knee."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from loadgen.clock import SECOND
from loadgen.measure import knee
from loadgen.measure.facts import StepFacts
from loadgen.measure.goodput import meets
from loadgen.measure.intervals import distribution_of_series, effective_sample_size, mean_of_series, share
from loadgen.measure.limits import ATTAINMENT, ENOUGH_REQUESTS, ROUND_TRIPS
from loadgen.measure.load import Spans, Window, edges_of
from loadgen.measure.statistics import Estimate
from loadgen.record import Outcome, RequestRecord
from loadgen.results.latency import latency
from loadgen.slo import Slo

Summary = dict[str, Any]

BINS = 200
"""A window is looked at in so many bins for its intervals: twenty times the ten batches that they need."""


def step(facts: StepFacts, measured: Sequence[RequestRecord], slo: Slo | None) -> Summary:
    """Return the figures of one step; ``measured``: all measured records of the run, on one clock.

    Throughput is of all that was served in the window, latencies are of the requests sent in it: none is left out for
    being long.
    """
    said: Summary = {
        "step": facts.number,
        "concurrency": facts.concurrency,
        "steady": None if facts.window_ns is None else facts.unsteady is None,
        "unsteady": facts.unsteady,
        "ended_by": facts.ended_by,
    }
    if facts.window_ns is None:
        return said | {
            "window_seconds": None,
            "requests_per_minute": None,
            "output_tokens_per_second": None,
            "latency": {},
            "goodput": None,
        }
    window = Window(*facts.window_ns)
    return said | served(window, measured) | of_those_sent(window, measured, slo)


def served(window: Window, measured: Sequence[RequestRecord]) -> Summary:
    """Return what was served in a window, with 95 % intervals."""
    edges = edges_of(window, max(1, (window.end - window.start) // BINS))
    spans = Spans.of([r for r in measured if r.end_ns is not None and r.end_ns > window.start])
    seconds = (edges[1] - edges[0]) / SECOND
    answers, tokens = spans.answers_served(edges), spans.tokens_served(edges)
    per_minute = mean_of_series(answers * 60 / seconds)
    known = not np.isnan(tokens).any()
    per_second = mean_of_series(tokens / seconds) if known else None
    enough = answers.sum() >= ENOUGH_REQUESTS
    long = len(spans.sent) > 0 and window.seconds * SECOND >= ROUND_TRIPS * float(np.median(spans.end - spans.sent))
    if per_minute is not None and not long:
        per_minute = replace(per_minute, ci95=None)
    return {
        "window_seconds": window.seconds,
        "answers": round(float(answers.sum()), 1),
        "requests_per_minute": shown(per_minute) if enough else {"value": None, "ci95": None, "n": len(answers)},
        "output_tokens_per_second": per_second.value if per_second and enough else None,
        "output_tokens_per_second_ci95": list(per_second.ci95)
        if per_second and per_second.ci95 and enough and long
        else None,
    }


def of_those_sent(window: Window, measured: Sequence[RequestRecord], slo: Slo | None) -> Summary:
    """Return latencies, failures and goodput of the requests sent in a window."""
    sent = sorted(
        (r for r in measured if r.sent_ns is not None and window.start <= r.sent_ns < window.end),
        key=lambda r: r.sent_ns or 0,
    )
    ok = [r for r in sent if r.outcome is Outcome.OK]
    return {
        "requests": len(sent),
        "failed": len(sent) - len(ok),
        "latency": latency(ok, distribution_of_series),
        "goodput": goodput(window, sent, slo),
    }


def throughput(steps: Sequence[Summary], concurrency: int) -> Summary:
    """Return the best step's figures, and where throughput stops growing."""
    known = [s for s in steps if s["requests_per_minute"] and s["requests_per_minute"]["value"] is not None]
    if not known:
        return {"requests_per_minute": None, "at_concurrency": concurrency, "knee": None, "goodput": None}
    points = [
        (s["concurrency"], s["requests_per_minute"]["value"], _pair(s["requests_per_minute"]["ci95"])) for s in known
    ]
    best = known[knee.best(points)]
    found = knee.knee(points)
    return {
        "requests_per_minute": best["requests_per_minute"],
        "at_concurrency": best["concurrency"],
        "output_tokens_per_second": best["output_tokens_per_second"],
        "knee": None if found is None else asdict(found),
        "goodput": _best_goodput(known),
    }


def _best_goodput(steps: Sequence[Summary]) -> Summary | None:
    """Return the most that was served within the limits, among steps that keep them often enough."""
    kept = [s for s in steps if s["goodput"] and s["goodput"]["share"]["value"] >= ATTAINMENT]
    if not kept:
        return None
    best = max(kept, key=lambda s: s["goodput"]["requests_per_minute"])
    return {**best["goodput"], "at_concurrency": best["concurrency"]}


def goodput(window: Window, sent: Sequence[RequestRecord], slo: Slo | None) -> Summary | None:
    """Return how many of these requests, in order, kept the limits; None without limits."""
    if slo is None or not sent:
        return None
    good = [meets(r, slo) for r in sent]
    n_eff = effective_sample_size(np.array(good, dtype=float))
    return {
        "requests_per_minute": 60 * sum(good) / window.seconds,
        "share": shown(share(sum(good), len(good), n_eff)),
        "slo": slo.text,
    }


def shown(estimate: Estimate | None) -> Summary | None:
    """Return an estimate as it stands in ``summary.json``."""
    if estimate is None:
        return None
    return {"value": estimate.value, "ci95": estimate.ci95 and list(estimate.ci95), "n": estimate.n}


def _pair(ci95: Sequence[float] | None) -> tuple[float, float] | None:
    return None if ci95 is None else (ci95[0], ci95[1])

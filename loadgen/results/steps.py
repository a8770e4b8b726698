"""The throughput of a run, step by step, and what follows from all steps: the best of them, and the knee."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from loadgen.measure import knee
from loadgen.measure.facts import StepFacts
from loadgen.measure.goodput import meets
from loadgen.measure.intervals import distribution_of_series, effective_sample_size, share
from loadgen.measure.latency import latency
from loadgen.measure.limits import ATTAINMENT, ENOUGH_REQUESTS, ROUND_TRIPS
from loadgen.measure.load import Spans, Window, belonging_to, edges_of
from loadgen.measure.statistics import Estimate
from loadgen.measure.throughput import Bins, Throughput
from loadgen.measure.throughput import throughput as throughput_of
from loadgen.record import Outcome, RequestRecord
from loadgen.slo import Slo

Summary = dict[str, Any]

HEADLINE_LATENCIES = ("ttft_ms", "tpot_ms", "e2e_ms")
"""Latencies that stand next to the highest throughput and the knee."""

BINS = 200
"""A window is looked at in so many bins for its intervals: twenty times the ten batches that they need."""


def step(facts: StepFacts, measured: Sequence[RequestRecord], slo: Slo | None, *, thinks: bool = False) -> Summary:
    """Return the figures of one step; ``measured``: all measured records of the run, on one clock.

    Throughput is of all that was served in the window, latencies are of the requests sent in it: none is left out for
    being long. ``thinks``: whether users think between their requests.
    """
    said: Summary = {
        "step": facts.number,
        "concurrency": facts.concurrency,
        "steady": None if facts.window_ns is None or facts.undecided else facts.unsteady is None,
        "unsteady": facts.unsteady,
        "undecided": facts.undecided,
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
    return said | served(window, measured, thinks=thinks) | of_those_sent(window, measured, slo, thinks=thinks)


def served(window: Window, measured: Sequence[RequestRecord], *, thinks: bool = False) -> Summary:
    """Return what was served in a window, with 95 % intervals; no figure of fewer than 30 answers.

    Of users who think also their mean think time, and why there is no interval, if so.
    """
    edges = edges_of(window, max(1, (window.end - window.start) // BINS))
    ended = [r for r in measured if r.end_ns is not None and r.end_ns > window.start]
    bins = Bins.of(ended, edges, cycles=thinks)
    found = throughput_of(bins)
    enough = found.answers >= ENOUGH_REQUESTS
    per_minute, per_second = found.requests_per_minute, found.tokens_per_second
    nothing = {"value": None, "ci95": None, "n": round(found.answers)}
    return {
        "window_seconds": window.seconds,
        "round_trips": round(found.round_trips, 2),
        "answers": round(found.answers, 1),
        "requests_per_minute": shown(per_minute) if per_minute and enough else nothing,
        "output_tokens_per_second": per_second.value if per_second and enough else None,
        "output_tokens_per_second_ci95": list(per_second.ci95) if per_second and per_second.ci95 and enough else None,
        **(_of_thinking(found, bins) if thinks else {}),
    }


def _of_thinking(found: Throughput, bins: Bins) -> Summary:
    """Return the mean think time in a window, and why its throughput has no interval; None where it has one."""
    estimate = found.requests_per_minute
    why = None
    if estimate is None or estimate.ci95 is None:
        cycles = f"the window holds {found.answers:.0f} answers and {found.round_trips:.1f} cycles of the users"
        why = f"{cycles}, an interval needs {ENOUGH_REQUESTS} and about {ROUND_TRIPS}"
        if found.long_enough:
            why = "throughput changed too slowly for a window of this length"
    return {"think_ms": 1_000 * bins.mean_think_s, "no_interval": why}


def of_those_sent(
    window: Window, measured: Sequence[RequestRecord], slo: Slo | None, *, thinks: bool = False
) -> Summary:
    """Return latencies, failures and goodput of a window's requests, including those that could not be sent."""
    sent = belonging_to(window, measured)
    ok = [r for r in sent if r.outcome is Outcome.OK]
    return {
        "requests": len(sent),
        "failed": len(sent) - len(ok),
        "latency": latency(ok, distribution_of_series),
        "goodput": goodput(window, measured, sent, slo, thinks=thinks),
    }


def throughput(steps: Sequence[Summary], concurrency: int | None) -> Summary:
    """Return the highest throughput, at how few users it is reached, where it stops growing, and the latency at both.

    Steps that were not steady take no part in it, nor those without a figure. ``concurrency``: the users where no step
    has a figure; None where their number was changed during the run.
    """
    known = [s for s in steps if _value(s) is not None and s["steady"] is not False]
    if not known:
        return {
            "requests_per_minute": None,
            "at_concurrency": concurrency,
            "plateau": [],
            "output_tokens_per_second": None,
            "latency": None,
            "knee": None,
            "goodput": None,
        }
    points = [
        (s["concurrency"], s["requests_per_minute"]["value"], _pair(s["requests_per_minute"]["ci95"])) for s in known
    ]
    top = knee.plateau(points)
    highest = [known[i] for i in top.steps]
    tokens = [s["output_tokens_per_second"] for s in highest]
    found = knee.knee(points)
    at = min(s["concurrency"] for s in highest)
    return {
        "requests_per_minute": {
            "value": top.value,
            "ci95": top.ci95 and list(top.ci95),
            "n": sum(s["requests_per_minute"]["n"] for s in highest),
        },
        "at_concurrency": at,
        "plateau": sorted(s["concurrency"] for s in highest),
        "output_tokens_per_second": None
        if None in tokens
        else sum(weight * value for weight, value in zip(top.weights, tokens, strict=True)),
        "latency": _latency_at(known, at),
        "knee": None if found is None else asdict(found) | {"latency": _latency_at(known, found.between[1])},
        "goodput": _best_goodput(known),
    }


def _latency_at(steps: Sequence[Summary], users: int) -> Summary:
    """Return the distributions of TTFT, TPOT and E2E of the step with so many users, as they are in that step."""
    of_step = next(s for s in steps if s["concurrency"] == users).get("latency") or {}
    return {name: of_step[name] for name in HEADLINE_LATENCIES if name in of_step}


def _value(step: Summary) -> float | None:
    found: float | None = (step["requests_per_minute"] or {}).get("value")
    return found


def _best_goodput(steps: Sequence[Summary]) -> Summary | None:
    """Return the most that was served within the limits, among steps that keep them often enough."""
    kept = [s for s in steps if s["goodput"] and s["goodput"]["share"]["value"] >= ATTAINMENT]
    if not kept:
        return None
    best = max(kept, key=lambda s: s["goodput"]["requests_per_minute"])
    return {**best["goodput"], "at_concurrency": best["concurrency"]}


def goodput(
    window: Window,
    measured: Sequence[RequestRecord],
    sent: Sequence[RequestRecord],
    slo: Slo | None,
    *,
    thinks: bool = False,
) -> Summary | None:
    """Return how much was served within the limits, and by how many requests they were kept; None without limits.

    ``measured``: all records, of which the good ones count as they do for throughput, so that goodput never exceeds it;
    ``sent``: those sent in the window, in order, which are what the share is of.
    """
    if slo is None or not sent:
        return None
    good = [meets(r, slo) for r in sent]
    n_eff = effective_sample_size(np.array(good, dtype=float))
    edges = np.array([window.start, window.end], dtype=np.int64)
    spans = Spans.of_cycles if thinks else Spans.of_service
    served = spans([r for r in measured if meets(r, slo)])
    return {
        "requests_per_minute": 60 * float(served.answers_served(edges)[0]) / window.seconds,
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

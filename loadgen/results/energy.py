"""What a summary says of energy and cost: of the measured requests of one user, or of the best step of a sweep."""

from collections.abc import Sequence
from typing import Any

from loadgen.measure.energy import cost_per_million, figures, used
from loadgen.measure.facts import StepFacts
from loadgen.record import RequestRecord
from loadgen.results.manifest import Manifest

Summary = dict[str, Any]


def whole(manifest: Manifest, ok: Sequence[RequestRecord]) -> Summary | None:
    """Return what complete answers took, from when the first was asked for to the end of the last; None if unknown."""
    sent = [r.sent_ns for r in ok if r.sent_ns is not None]
    ends = [r.end_ns for r in ok if r.end_ns is not None]
    if not sent or not ends:
        return None
    known = [r.output_tokens for r in ok if r.output_tokens is not None]
    tokens = sum(known) if len(known) == len(ok) else None
    return _window(manifest, min(sent), max(ends), tokens, len(ok))


def of_steps(manifest: Manifest, facts: Sequence[StepFacts], found: Summary) -> Summary | None:
    """Return what the best step took in its window, and put into each step what that one took."""
    windows = {fact.number: fact.window_ns for fact in facts}
    best = None
    for step in found["steps"]:
        window, rate = windows.get(step["step"]), step["requests_per_minute"]
        step["energy"] = None
        if window is None or not rate or rate["value"] is None:
            continue
        seconds, per_second = step["window_seconds"], step["output_tokens_per_second"]
        tokens = None if per_second is None else per_second * seconds
        step["energy"] = _window(manifest, *window, tokens, rate["value"] / 60 * seconds)
        if step["concurrency"] == found["throughput"]["at_concurrency"]:
            best = step["energy"]
    return best


def _window(
    manifest: Manifest, start_ns: int, end_ns: int, output_tokens: float | None, requests: float
) -> Summary | None:
    gpus = len(manifest.launched.gpus) if manifest.launched else 0
    price = manifest.scenario.get("price_per_gpu_hour")
    seconds = (end_ns - start_ns) / 1e9
    energy = used(manifest.energy, start_ns, end_ns)
    cost = cost_per_million(seconds, output_tokens, gpus, price)
    if energy is None and cost is None:
        return None
    found = {} if energy is None else figures(energy, output_tokens, requests)
    return {"gpus": gpus, **found, "cost_per_million_output_tokens": cost}

"""What GPUs used in a window: joules, and what they come to for each token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np

from loadgen.clock import SECOND

Source = Literal["counter", "power"]

EDGE_S = 3.0
"""Samples may begin so long after a window does, or end before it: they come once a second."""


class EnergySample(msgspec.Struct, frozen=True, array_like=True):
    """What the GPUs of an engine say together; None where one of them does not."""

    at_ns: int
    """Monotonic clock of the process that conducts."""
    joules: float | None
    """Of their energy counters, since the driver was loaded."""
    watts: float | None
    """Now, as far as that is known: some average over a second, others look on a quarter of the time (arXiv
    2312.02741)."""


@dataclass(frozen=True, slots=True)
class Energy:
    """Used in a window."""

    joules: float
    seconds: float
    source: Source
    """Difference of the counters, or, where there are none, the integral of the power by the trapezoidal rule."""


def used(samples: Sequence[EnergySample], start_ns: int, end_ns: int) -> Energy | None:
    """Return what was used from one time to another; None where the samples do not reach over it."""
    if len(samples) < 2 or end_ns <= start_ns:  # noqa: PLR2004 a difference needs two
        return None
    at = np.array([s.at_ns for s in samples], dtype=float)
    if at[0] > start_ns + EDGE_S * SECOND or at[-1] < end_ns - EDGE_S * SECOND:
        return None
    seconds = (end_ns - start_ns) / SECOND
    if all(s.joules is not None for s in samples):
        counter = np.array([s.joules for s in samples], dtype=float)
        if (np.diff(counter) < 0).any():  # the driver was loaded anew
            return None
        begin, end = np.interp([start_ns, end_ns], at, counter)
        return Energy(float(end - begin), seconds, "counter")
    if all(s.watts is not None for s in samples):
        watts = np.array([s.watts for s in samples], dtype=float)
        inside = at[(at > start_ns) & (at < end_ns)]
        edges = np.concatenate(([start_ns], inside, [end_ns]))
        return Energy(float(np.trapezoid(np.interp(edges, at, watts), edges)) / SECOND, seconds, "power")
    return None


def figures(energy: Energy, output_tokens: float | None, requests: float) -> dict[str, Any]:
    """Return what energy comes to; what cannot be told is None."""
    per_joule = output_tokens / energy.joules if output_tokens and energy.joules > 0 else None
    return {
        "joules": energy.joules,
        "source": energy.source,
        "seconds": energy.seconds,
        "watts": energy.joules / energy.seconds,
        "joules_per_request": energy.joules / requests if requests else None,
        "joules_per_output_token": None if per_joule is None else 1 / per_joule,
        "tokens_per_second_per_watt": per_joule,  # the same as tokens per joule
    }


def cost_per_million(seconds: float, output_tokens: float | None, gpus: int, price: float | None) -> float | None:
    """Return what a million output tokens cost, at so much for an hour of one GPU; None where nobody knows."""
    if price is None or not gpus or not output_tokens:
        return None
    return price * gpus * seconds / 3600 / output_tokens * 1e6

"""Limits on a request's latencies, as in ``ttft_ms=200,tpot_ms=50,e2e_ms=5000``."""

from collections.abc import Mapping
from dataclasses import dataclass

from loadgen.metrics import LIMITS

NAMES = tuple(metric.key for metric in LIMITS)


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits on the latencies of a request."""

    text: str
    """The text that was parsed, without whitespace."""
    limits: Mapping[str, float]
    """The limit on each metric that has one, by the metric's key, ms."""


def parse_slo(text: str) -> Slo:
    """Return the limits of a text such as ``ttft_ms=200,tpot_ms=50``.

    Raises ValueError naming the part that is not valid, and the limits that are.
    """
    limits: dict[str, float] = {}
    parts = "".join(text.split()).split(",")
    for part in parts:
        name, _, value = part.partition("=")
        if name not in NAMES:
            raise _wrong(part, f"{name!r} is no limit" if name else "a limit has no name")
        if name in limits:
            raise _wrong(part, f"{name} is given twice")
        limits[name] = _above_zero(part, value)
    return Slo(",".join(parts), limits)


def _above_zero(part: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise _wrong(part, f"{value!r} is not a number" if value else "the number is missing") from None
    if not 0 < number < float("inf"):
        raise _wrong(part, "a limit must be above 0, in milliseconds")
    return number


def _wrong(part: str, why: str) -> ValueError:
    return ValueError(
        f"in {part!r} {why}; allowed are {', '.join(NAMES)}, each at most once, as in ttft_ms=200,tpot_ms=50."
    )

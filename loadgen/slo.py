"""Limits on a request's latencies, as in ``ttft_ms=200,tpot_ms=50,e2e_ms=5000``."""

from dataclasses import dataclass

LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms")


@dataclass(frozen=True, slots=True)
class Slo:
    """Limits on the latencies of a request, ms. None: no limit."""

    text: str
    """The text that was parsed, without whitespace."""
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


def parse_slo(text: str) -> Slo:
    """Return the limits of a text such as ``ttft_ms=200,tpot_ms=50``.

    Raises ValueError naming the part that is not valid, and the limits that are.
    """
    limits: dict[str, float] = {}
    parts = "".join(text.split()).split(",")
    for part in parts:
        name, _, value = part.partition("=")
        if name not in LIMITS:
            raise _wrong(part, f"{name!r} is no limit" if name else "a limit has no name")
        if name in limits:
            raise _wrong(part, f"{name} is given twice")
        limits[name] = _above_zero(part, value)
    return Slo(",".join(parts), **limits)


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
        f"in {part!r} {why}; allowed are {', '.join(LIMITS)}, each at most once, as in ttft_ms=200,tpot_ms=50."
    )

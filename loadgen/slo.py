"""Limits on a request's latencies, as in ``ttft_ms=200,tpot_ms=50,e2e_ms=5000``."""

from dataclasses import dataclass

from loadgen.errors import UsageError

LIMITS = ("ttft_ms", "tpot_ms", "e2e_ms")


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request has to keep, ms; None is no limit."""

    text: str
    """As it was given, without blanks."""
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


def parse_slo(text: str) -> Slo:
    """Read the value of ``--slo``; raises UsageError naming the part that cannot be meant."""
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


def _wrong(part: str, why: str) -> UsageError:
    return UsageError(
        f"--slo: in {part!r} {why}; allowed are {', '.join(LIMITS)}, each at most once, as in ttft_ms=200,tpot_ms=50."
    )

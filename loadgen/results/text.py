"""How numbers and sentences are written, the same in every report."""

from collections.abc import Mapping
from typing import Any

ABSENT = "\N{EN DASH}"

Value = Mapping[str, Any] | None


def number(value: float | None, digits: int = 2) -> str:
    """Write a number, or the dash of what was not measured."""
    return ABSENT if value is None else f"{value:,.{digits}f}"


def estimate(value: Value, digits: int = 2) -> str:
    """Write an estimate with its 95 % interval."""
    if value is None or value.get("value") is None:
        return ABSENT
    text = number(value["value"], digits)
    ci = value.get("ci95")
    return f"{text} [{number(ci[0], digits)}, {number(ci[1], digits)}]" if ci else text


def title(summary: Mapping[str, Any]) -> str:
    """Return the first line of every report: what was asked, of what, and whether it was real."""
    line = f"{summary['model']} on {summary['engine']}, prompts: {summary['dataset']}"
    return f"{line} ({', '.join(labels)})" if (labels := reservations(summary)) else line


def reservations(summary: Mapping[str, Any]) -> list[str]:
    """Return what every output of this run has to say of itself."""
    found = []
    if summary["simulated"]:
        found.append("SIMULATED")
    if summary.get("embedded"):
        found.append(str(summary["embedded"]))
    if summary.get("client") == "openai":
        found.append("through the openai SDK")
    return found

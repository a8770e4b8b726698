"""How numbers and sentences are written, the same in every report."""

from collections.abc import Mapping
from typing import Any

from loadgen.results.manifest import Manifest

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


def short(value: float | None) -> str:
    """Write a number in about four digits."""
    return number(value, digits_of(value))


def short_estimate(value: Value) -> str:
    """Write an estimate with its interval, in about four digits each."""
    return estimate(value, digits_of((value or {}).get("value")))


def digits_of(value: float | None) -> int:
    """Return how many digits after the point make about four."""
    size = abs(value or 0)
    return 0 if size >= 1_000 else 1 if size >= 100 else 2  # noqa: PLR2004 as written above


def percent(value: Value) -> str:
    """Write a share with its 95 % interval."""
    if value is None or value.get("value") is None:
        return ABSENT
    ci = value.get("ci95")
    interval = f" [{100 * ci[0]:.1f}, {100 * ci[1]:.1f}]" if ci else ""
    return f"{100 * value['value']:.1f} %{interval}"


def title(summary: Mapping[str, Any]) -> str:
    """Return the first line of every report: what was asked, of what, and whether it was real."""
    line = f"{summary['model']} on {summary['engine']}, prompts: {summary['dataset']}"
    return f"{line} ({', '.join(labels)})" if (labels := reservations(summary)) else line


def title_of(manifest: Manifest) -> tuple[str, list[str]]:
    """Return the same line of a run that has no summary yet, and apart what it has to say of itself."""
    found = {
        "model": manifest.model,
        "engine": manifest.engine,
        "dataset": manifest.dataset.get("name"),
        "simulated": manifest.simulated,
        "embedded": manifest.embedded,
        "launched": None
        if manifest.launched is None
        else {
            "weights": manifest.launched.weights,
            "time_factor": manifest.launched.options.get("time_factor"),
        },
        "client": manifest.scenario.get("client"),
    }
    return title(found), reservations(found)


def reservations(summary: Mapping[str, Any]) -> list[str]:
    """Return what every output of this run has to say of itself."""
    found = []
    launched = summary.get("launched") or {}
    if summary["simulated"]:
        found.append("SIMULATED")
        if (factor := launched.get("time_factor") or 1) != 1:
            found.append(f"{factor:g} times as fast")
    if summary.get("embedded"):
        found.append(str(summary["embedded"]))
    if launched.get("weights") == "random":
        found.append("random weights")
    if summary.get("client") == "openai":
        found.append("through the openai SDK")
    if summary.get("proxy"):
        found.append(f"through the proxy {summary['proxy']}")
    return found

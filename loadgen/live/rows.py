"""The live data, or the result, as rows of a table in Locust's own page: metric, value, p50, p90, p99."""

from collections.abc import Mapping
from typing import Any

from loadgen.live.live import SHOWN
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE

Row = dict[str, str]

ORDER = "name"
"""Key of a row's place: Locust's page sorts the rows of a table by the values of this key."""

_COUNTS = {"in_flight": "requests in flight", "completed": "completed", "failed": "failed"}
_PERCENTILES = ("p50", "p90", "p99")


def rows(data: Mapping[str, Any]) -> list[Row]:
    """Return the rows in their order; an unknown value is an empty cell."""
    now, result = data.get("now") or {}, data.get("result")
    latency, of = now.get("latency") or {}, data.get("figures_of") or ""
    found = [
        _row("run", _state(data, now)) if result is None else _row("result", result["headline"]["text"]),
        *(
            _row(_labelled(metric.label, of), _number(now.get(metric.key), 1))
            for metric in (OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE)
            if result is None or now.get(metric.key) is not None
        ),
        *(
            _row(_labelled(metric.heading, of), "", latency[metric.key])
            for metric in SHOWN
            if latency.get(metric.key) is not None
        ),
        *(_row(name, _number(now[key], 0)) for key, name in _COUNTS.items() if key in now),
        _row("verdict so far" if result is None else "verdict", _verdict(data.get("verdict") or {})),
    ]
    return [row | {ORDER: f"{place:02}"} for place, row in enumerate(found)]


def _labelled(name: str, of: str) -> str:
    return f"{name} ({of})" if of else name


def _row(metric: str, value: str, percentiles: Mapping[str, float | None] | None = None) -> Row:
    found = percentiles or {}
    return {"metric": metric, "value": value} | {p: _number(found.get(p), 2) for p in _PERCENTILES}


def _verdict(verdict: Mapping[str, Any]) -> str:
    """Return the status, and the names of the checks that object."""
    objections = [c["name"] for c in verdict.get("checks") or () if c["status"] not in {"ok", "not checked"}]
    status = str(verdict.get("status") or "")
    return f"{status}: {', '.join(objections)}" if objections else status


def _state(data: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what is going on: the state, the step and its users."""
    state = str((data.get("run") or {}).get("state") or "idle")
    if state == "idle" or now.get("step") is None:
        return state
    of = "" if now.get("steps") is None else f" of {now['steps']}"
    users = "" if now.get("concurrency") is None else f", {now['concurrency']} users"
    return f"{state}: step {now['step'] + 1}{of}{users}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"

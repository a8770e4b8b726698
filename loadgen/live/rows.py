"""The live data as rows of a table in Locust's own page: name, value, p50, p90, p99."""

from collections.abc import Mapping
from typing import Any

from loadgen.live.live import SHOWN
from loadgen.metrics import OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE

Row = dict[str, str]

_COUNTS = {"in_flight": "requests in flight", "failed": "failed"}
_PERCENTILES = ("p50", "p90", "p99")


def rows(data: Mapping[str, Any]) -> list[Row]:
    """Return the rows; what is not known is an empty cell."""
    now = data.get("now") or {}
    latency, of = now.get("latency") or {}, data.get("figures_of") or ""
    return [
        _row("run", _state(data, now)),
        _row("verdict so far", str((data.get("verdict") or {}).get("status") or "")),
        *(_row(name, _number(now.get(key), 0)) for key, name in _COUNTS.items()),
        *(
            _row(_labelled(metric.label, of), _number(now.get(metric.key), 1))
            for metric in (OUTPUT_TOKENS_PER_SECOND, REQUESTS_PER_MINUTE)
        ),
        *(
            _row(_labelled(metric.heading, of), "", latency[metric.key])
            for metric in SHOWN
            if latency.get(metric.key) is not None
        ),
    ]


def _labelled(name: str, of: str) -> str:
    return f"{name} ({of})" if of else name


def _row(name: str, value: str, percentiles: Mapping[str, float | None] | None = None) -> Row:
    found = percentiles or {}
    return {"name": name, "now": value} | {p: _number(found.get(p), 2) for p in _PERCENTILES}


def _state(data: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what is going on: the state, the step and its users."""
    state = str((data.get("run") or {}).get("state") or "idle")
    if state in {"idle", "ended"} or now.get("step") is None:
        return state
    of = "" if now.get("steps") is None else f" of {now['steps']}"
    users = "" if now.get("concurrency") is None else f", {now['concurrency']} users"
    return f"{state}: step {now['step'] + 1}{of}{users}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"

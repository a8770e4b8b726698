"""Asks the engine for its own counters, before the first request and after the last."""

from loadgen.clock import now
from loadgen.engines.engine import Metrics
from loadgen.measure.counters import parse
from loadgen.measure.facts import EngineCounters
from loadgen.protocol.client import Settings
from loadgen.wire.fault import WireError
from loadgen.wire.get import get
from loadgen.wire.waiting import Waiter

TIMEOUT_S = 5.0
_OK = 200


def read_counters(settings: Settings, metrics: Metrics | None, waiter: Waiter) -> EngineCounters | None:
    """Return what the engine's metrics say now; None where it has none, or they say nothing that we know."""
    if metrics is None:
        return None
    try:
        reply = get(settings.target, metrics.path, waiter, timeout=TIMEOUT_S, api_key=settings.api_key)
    except WireError:
        return None
    return parse(reply.body.decode(errors="replace"), now(), metrics.names) if reply.status == _OK else None

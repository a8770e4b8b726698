"""Asks the engine for its own counters, before the first request and after the last."""

from loadgen.clock import now
from loadgen.measure.counters import parse
from loadgen.measure.facts import EngineCounters
from loadgen.wire.client import Settings
from loadgen.wire.connection import WireError
from loadgen.wire.get import get
from loadgen.wire.waiting import Waiter

TIMEOUT_S = 5.0
_OK = 200


def read_counters(settings: Settings, waiter: Waiter) -> EngineCounters | None:
    """Return what ``/metrics`` says now; None where there is none, or it says nothing that we know."""
    try:
        reply = get(settings.target, "/metrics", waiter, timeout=TIMEOUT_S, api_key=settings.api_key)
    except WireError:
        return None
    return parse(reply.body.decode(errors="replace"), now()) if reply.status == _OK else None

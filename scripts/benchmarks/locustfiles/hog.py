"""chat.py's user, in a process that holds up its own event loop: 30 ms busy, 30 ms free, again and again."""

import sys
from pathlib import Path
from time import perf_counter

import gevent
from locust import events

sys.path.append(str(Path(__file__).parents[3] / "locustfiles"))
from chat import Chat

__all__ = ["Chat"]

_BUSY_S = _FREE_S = 0.03


@events.test_start.add_listener
def _begin(**_: object) -> None:
    gevent.spawn(_hold_up)


def _hold_up() -> None:
    while True:
        until = perf_counter() + _BUSY_S
        while perf_counter() < until:
            pass
        gevent.sleep(_FREE_S)

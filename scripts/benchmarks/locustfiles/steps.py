"""chat.py's user, in a process that times the steps of a request by its CPU clock and writes them down at the end."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns
from typing import Any

from locust import events

sys.path.append(str(Path(__file__).parents[3] / "locustfiles"))
from chat import Chat

from loadgen.protocol import client
from loadgen.protocol.client import Client
from loadgen.run.share import RunShare
from loadgen.wire.connection import Connection
from loadgen.wire.read_loop import ReadLoop

__all__ = ["Chat"]

STEPS = (
    (Client, "_encoded", "write the request"),
    (Connection, "open", "open the connection"),
    (Connection, "send", "send the request"),
    (ReadLoop, "poll", "read, and parse HTTP"),
    (ReadLoop, "sweep", "sweep lazy streams"),
    (Connection, "close", "close the connection"),
    (client, "decode", "decode the answer"),
    (client, "record_of", "make the record"),
    (RunShare, "keep", "keep the record, tell Locust"),
)
"""Where the time of a request goes, none within another."""

_spent: Counter[str] = Counter()


def _timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    def timed(*arguments: object, **named: object) -> object:
        begun = thread_time_ns()
        try:
            return function(*arguments, **named)
        finally:
            _spent[name] += thread_time_ns() - begun

    return timed


for owner, attribute, step in STEPS:
    setattr(owner, attribute, _timed(getattr(owner, attribute), step))


@events.test_start.add_listener
def _begin(**_: object) -> None:
    _spent.clear()


@events.test_stop.add_listener
def _write(**_: object) -> None:
    Path(os.environ["BENCH_STEPS"]).write_text(json.dumps(_spent))

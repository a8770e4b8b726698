"""Measures how fast an LLM inference engine is: its public API.

Importing this package imports neither Locust nor gevent; a name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loadgen import moved

if TYPE_CHECKING:
    from loadgen.harness.users import ClosedLoopUser, OpenLoopUser, SweepUser
    from loadgen.record import Outcome, RequestRecord
    from loadgen.request import Message, Request
    from loadgen.results.store import read_run

__all__ = [
    "ClosedLoopUser",
    "Message",
    "OpenLoopUser",
    "Outcome",
    "Request",
    "RequestRecord",
    "SweepUser",
    "read_run",
]

_HOMES = {
    "ClosedLoopUser": "loadgen.harness",
    "Message": "loadgen.request",
    "OpenLoopUser": "loadgen.harness",
    "Outcome": "loadgen.record",
    "Request": "loadgen.request",
    "RequestRecord": "loadgen.record",
    "SweepUser": "loadgen.harness",
    "read_run": "loadgen.results.store",
}

moved.announce()


def __getattr__(name: str) -> Any:  # noqa: ANN401 classes and functions
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

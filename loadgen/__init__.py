"""Measures how fast an LLM inference engine is: its public API.

Importing this package imports neither Locust nor gevent; a name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from loadgen import moved

if TYPE_CHECKING:
    from loadgen.harness.library import last_result
    from loadgen.harness.users import LLMUser, OpenLoopUser, SweepUser
    from loadgen.record import Outcome, RequestRecord
    from loadgen.request import Message, Request
    from loadgen.results.run_data import Run, read_run
    from loadgen.run.answer import Answer, ChatFailed

__all__ = [
    "Answer",
    "ChatFailed",
    "LLMUser",
    "Message",
    "OpenLoopUser",
    "Outcome",
    "Request",
    "RequestRecord",
    "Run",
    "SweepUser",
    "last_result",
    "read_run",
]

_HOMES = {
    "Answer": "loadgen.run.answer",
    "ChatFailed": "loadgen.run.answer",
    "LLMUser": "loadgen.harness",
    "Message": "loadgen.request",
    "OpenLoopUser": "loadgen.harness",
    "Outcome": "loadgen.record",
    "Request": "loadgen.request",
    "RequestRecord": "loadgen.record",
    "Run": "loadgen.results.run_data",
    "SweepUser": "loadgen.harness",
    "last_result": "loadgen.harness.library",
    "read_run": "loadgen.results.run_data",
}

moved.announce()


def __getattr__(name: str) -> Any:  # noqa: ANN401 classes and functions
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise moved.moved_user(__name__, name) or AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

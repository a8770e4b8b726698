"""The only code that knows Locust and gevent. Importing it adds our options and listeners to Locust."""

from typing import NoReturn

from loadgen.harness import plugin
from loadgen.harness.users import LLMUser, OpenLoopUser, SweepUser
from loadgen.moved import moved_user

plugin.register()

__all__ = ["LLMUser", "OpenLoopUser", "SweepUser"]


def __getattr__(name: str) -> NoReturn:
    raise moved_user(__name__, name) or AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The only code that knows Locust and gevent. Importing it adds our options and listeners to Locust."""

from typing import NoReturn

from loadgen.harness import plugin
from loadgen.harness.users import ClosedLoopUser, OpenLoopUser, SweepUser

plugin.register()

__all__ = ["ClosedLoopUser", "OpenLoopUser", "SweepUser"]


def __getattr__(name: str) -> NoReturn:
    if name == "RampedUser":
        raise ImportError("loadgen.harness.RampedUser is now loadgen.SweepUser", name=__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

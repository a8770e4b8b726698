"""The only code that knows Locust and gevent. A locustfile imports its user class from here."""

from loadgen.harness import plugin
from loadgen.harness.users import ClosedLoopUser, OpenLoopUser, SweepUser

plugin.register()

__all__ = ["ClosedLoopUser", "OpenLoopUser", "SweepUser"]

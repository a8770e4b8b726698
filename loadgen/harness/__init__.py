"""The only code that knows Locust and gevent. A locustfile imports its user class from here."""

from loadgen.harness import plugin
from loadgen.harness.users import ClosedLoopUser, OpenLoopUser, RampedUser

plugin.register()

__all__ = ["ClosedLoopUser", "OpenLoopUser", "RampedUser"]

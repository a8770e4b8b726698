"""The only code that knows Locust and gevent. A locustfile imports its user class from here."""

from loadgen.harness import plugin
from loadgen.harness.users import ClosedLoopUser

plugin.register()

__all__ = ["ClosedLoopUser"]

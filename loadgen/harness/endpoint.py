"""The server that runs ask: the one that was named, else the embedded engine, started when it is first needed."""

import logging
from collections.abc import Mapping

from locust.env import Environment

from loadgen.errors import OptionError
from loadgen.harness.user_classes import host_of_users
from loadgen.launch.child import ChildServer
from loadgen.launch.embedded import start_embedded

logger = logging.getLogger(__name__)


class Endpoint:
    """Sees to it that an environment has a host."""

    def __init__(self, environment: Environment, *, can_be_embedded: bool) -> None:
        """``can_be_embedded``: whether all processes that ask are on this machine."""
        self.can_be_embedded = can_be_embedded
        self._environment = environment
        self._is_given = environment.host is not None
        environment.host = environment.host or host_of_users(environment.user_classes)
        self._engine: ChildServer | None = None

    def ensure(self) -> str:
        """Return the host; start the embedded engine if none was named. Raises UsageError where it cannot run."""
        if not self._environment.host:
            self._environment.host = self._started().host
        return str(self._environment.host)

    def take(self, form: Mapping[str, str]) -> None:
        """Take the host of a form; one that nobody has given or changed is that of the classes that were picked."""
        shown = self._environment.host
        host = form.get("host", shown)
        is_chosen = self._is_given or host != shown
        self._environment.host = host if is_chosen else host_of_users(self._environment.user_classes) or host

    @property
    def embedded(self) -> ChildServer | None:
        """The embedded engine, if it is what is asked."""
        engine, host = self._engine, str(self._environment.host)
        return engine if engine is not None and host.rstrip("/") == engine.host else None

    def close(self) -> None:
        """Stop the embedded engine."""
        if self._engine is not None:
            self._engine.stop()
            self._engine = None

    def _started(self) -> ChildServer:
        if not self.can_be_embedded:
            raise OptionError(
                "--master needs --host: the embedded engine listens on this machine only, where workers on others "
                "cannot reach it. Name a server, or use --processes."
            )
        if self._engine is None:
            logger.info("No --host: starting the embedded engine (llama.cpp, random weights)")
            self._engine = start_embedded()
        return self._engine

"""Where the API key, and other secrets, may be sent: to the servers that they were given for.

A host can come from others: from a web form, or from a worker's master. A key comes from this process's own
environment. So the key goes only to origins (scheme, host and port) that this process was itself told: by ``--host``
(its command line, environment or configuration file), by the locustfile's ``host``, or by ``LOADGEN_KEY_HOSTS``.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from loadgen.errors import OptionError
from loadgen.run.secrets import api_key
from loadgen.wire.target import Target, origin_of

VARIABLE = "LOADGEN_KEY_HOSTS"


@dataclass(frozen=True, slots=True)
class KeyHosts:
    """The origins that the key may be sent to."""

    origins: frozenset[str]

    def key_for(self, target: Target) -> str | None:
        """Return the API key, None if there is none; raises OptionError where the key is not for this server."""
        key = api_key()
        if key is not None:
            self.check(target, "the key in OPENAI_API_KEY")
        return key

    def check(self, target: Target, what: str) -> None:
        """Raise OptionError where a secret, named by ``what``, is not for this server."""
        if target.origin in self.origins:
            return
        known = f"it is for {', '.join(sorted(self.origins))}" if self.origins else "no host was named for it"
        raise OptionError(
            f"--host {target.url}: {what} is not sent there, {known}. "
            f"Start with --host {target.origin}, or set {VARIABLE}={target.origin}; a worker needs that too."
        )


def key_hosts(hosts: Iterable[str | None]) -> KeyHosts:
    """Return the origins of these base URLs, and those of ``LOADGEN_KEY_HOSTS``; raises OptionError naming the latter.

    A base URL that is not valid adds none: where it is used, that is reported.
    """
    origins = set(allowed_by_variable())
    for host in hosts:
        with suppress(ValueError):
            origins.add(origin_of(host or ""))
    return KeyHosts(frozenset(origins))


def allowed_by_variable() -> frozenset[str]:
    """Return the origins that ``LOADGEN_KEY_HOSTS`` names; raises OptionError for one that is not valid.

    Entries are separated by commas: SCHEME://HOST[:PORT], or HOST[:PORT], which means https.
    """
    entries = [entry.strip() for entry in os.environ.get(VARIABLE, "").split(",")]
    return frozenset(_origin(entry) for entry in entries if entry)


def _origin(entry: str) -> str:
    url = entry if "://" in entry else f"https://{entry}"
    if "/" not in url.partition("://")[2].removesuffix("/"):  # a key is for a server, not for a path
        with suppress(ValueError):
            return origin_of(url)
    shown = "an entry with credentials" if "@" in entry else repr(entry)
    raise OptionError(
        f"{VARIABLE}: {shown} is not valid; write http://HOST:PORT or https://HOST:PORT, without a path, separated "
        "by commas."
    )

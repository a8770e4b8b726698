"""HTTP proxies: which one is used for a target, and opening a tunnel through it."""

import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

LONGEST_REPLY = 64 * 1024
"""Bytes of a proxy's answer to CONNECT."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. It is asked for a tunnel to TLS servers, and for whole URLs of others."""

    host: str
    port: int
    credentials: str | None = None
    """``USER:PASSWORD``; a secret."""

    @property
    def authorization(self) -> str | None:
        """Value of ``Proxy-Authorization`` (RFC 7617)."""
        return None if self.credentials is None else f"Basic {b64encode(self.credentials.encode()).decode()}"

    @property
    def address(self) -> str:
        """Host and port, without credentials."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_proxy(url: str, *, with_credentials: bool) -> Proxy:
    """Read the URL of a proxy; raises ValueError, whose text never has the URL.

    ``with_credentials``: whether there may be some in it, as in an environment variable.
    """
    way_out = "write its address, as in http://127.0.0.1:3128; 'env' takes HTTP_PROXY and HTTPS_PROXY."
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = parts.hostname, parts.port or 8080
    except ValueError:
        raise ValueError(way_out) from None
    if parts.scheme != "http":
        raise ValueError(f"only http:// proxies are supported, not {parts.scheme}://.")
    if parts.username is not None and not with_credentials:
        raise ValueError("no credentials here, they show in process lists; set HTTPS_PROXY, and write 'env' here.")
    if not host:
        raise ValueError(way_out)
    if parts.username is None:
        return Proxy(host, port)
    return Proxy(host, port, f"{unquote(parts.username)}:{unquote(parts.password or '')}")


def proxy_of(setting: str, scheme: Literal["http", "https"], host: str) -> Proxy | None:
    """Return the proxy for a server, None for none. ``setting``: ``none``, ``env`` or the URL of one.

    ``env`` reads the variables as curl does: in lower case first, with NO_PROXY. Raises ValueError for what cannot be
    used, and for a server on this machine, which would be measured through the proxy by mistake.
    """
    if setting == "none":
        return None
    if setting == "env":
        known = urllib.request.getproxies_environment()
        url = known.get(scheme) or known.get("all")
        from_environment: Any = urllib.request
        if url is None or from_environment.proxy_bypass_environment(host, known):  # typeshed does not know it
            return None
        proxy = parse_proxy(url, with_credentials=True)
    else:
        proxy = parse_proxy(setting, with_credentials=False)
    if is_loopback(host):
        way_out = "name it in NO_PROXY" if setting == "env" else "ask it directly"
        raise ValueError(f"{host} is this machine, which is not measured through a proxy: {way_out}.")
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host name is this machine's own by its spelling."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")

"""Where requests go: the base URL that a user gives, taken apart, and the paths of routes below it."""

import os
import re
import ssl
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, urlsplit

from loadgen.errors import OptionError
from loadgen.headers import check_query
from loadgen.wire.proxy import Proxy

_VERSION = re.compile(r"/v[0-9]+\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """Host and port, the path below which the API lies, and TLS if the URL asks for it."""

    host: str
    port: int
    base_path: str = ""
    """As it was given, without a slash at its end."""
    tls: ssl.SSLContext | None = None
    query: str = ""
    """Sent along with each route, as Azure's ``api-version``."""
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header has them."""
        return _authority(self.host, self.port, secure=self.tls is not None)

    @property
    def origin(self) -> str:
        """Scheme, host and port; equal origins are spelt equally."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return _with_query(f"{self.origin}{self.base_path}", self.query)

    def path_of(self, route: str) -> str:
        """Return path and query of an API's route below the base, which may have the route's version in it already."""
        path, _, query = route.partition("?")
        base = self.base_path
        if _VERSION.search(base):
            path = path.removeprefix("/v1") if path.startswith("/v1/") else path
        return _with_query(base + path, "&".join(filter(None, (query, self.query))))

    def unversioned_path_of(self, route: str) -> str:
        """Return path and query of a route outside the API, such as ``/metrics``: the base's version is dropped."""
        return _with_query(_VERSION.sub("", self.base_path) + route, self.query)


def _with_query(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path


def _authority(host: str, port: int, *, secure: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == _default_port(secure=secure) else f"{name}:{port}"


def _default_port(*, secure: bool) -> int:
    return 443 if secure else 80


def parse_target(url: str, *, verify: bool = True) -> Target:
    """Take a base URL apart; its path and its query are kept.

    Raises ValueError, see :func:`_address`.
    """
    parts, host, port = _address(url)
    tls = open_context(verify=verify) if parts.scheme == "https" else None
    return Target(host, port, parts.path.rstrip("/"), tls, parts.query)


def without_route(target: Target, route: str) -> tuple[Target, str | None]:
    """Split the route off a target that was given with all of it.

    Returns the target, and the route to be used where it is not the API's own: Azure's has no version before it.
    """
    rest = route.removeprefix("/v1")
    if not target.base_path.endswith(rest):
        return target, None
    base = target.base_path.removesuffix(rest)
    return replace(target, base_path=base), None if _VERSION.search(base) else rest


def origin_of(url: str) -> str:
    """Return the origin of a base URL, spelt as :attr:`Target.origin` is; raises ValueError, see :func:`_address`."""
    parts, host, port = _address(url)
    return f"{parts.scheme}://{_authority(host, port, secure=parts.scheme == 'https')}"


def _address(url: str) -> tuple[SplitResult, str, int]:
    """Return the parts of a base URL, its host and its port.

    Raises ValueError: a sentence about the URL that does not repeat it, as there may be credentials in it.
    """
    if "@" in url:  # first, so that no other message repeats it
        raise ValueError("no credentials in the URL, it shows in process lists; set OPENAI_API_KEY instead.")
    try:
        url.encode("ascii")
        parts = urlsplit(url.strip())
        port = parts.port
    except UnicodeEncodeError:
        raise ValueError("write it in ASCII: a host name in punycode, a path with %XX.") from None
    except ValueError as error:
        raise ValueError(f"{error}.") from None
    if "://" in url and parts.scheme not in {"http", "https"}:
        raise ValueError("only http:// and https:// are supported.")
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"the scheme is missing; write http://{url} or https://{url}.")
    if not parts.hostname:
        raise ValueError("it has no host name; write http://HOST:PORT.")
    if port == 0:
        raise ValueError("port 0 is not valid; choose 1 to 65535.")
    if parts.fragment:
        raise ValueError("a base URL has no '#'.")
    check_query(parts.query)
    return parts, parts.hostname, port or _default_port(secure=parts.scheme == "https")


def open_context(*, verify: bool) -> ssl.SSLContext:
    """Return a TLS context for clients, which trusts the system's authorities, or those in SSL_CERT_FILE.

    Raises OptionError, which names the variable, if that file cannot be read.
    """
    own = os.environ.get("SSL_CERT_FILE")
    try:
        context = ssl.create_default_context(cafile=own)
    except OSError as error:
        raise OptionError(f"SSL_CERT_FILE: cannot read {own} ({error.strerror or error}).") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def present(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Let a context present a client's certificate, from a file, whose key is in the same or in another one.

    Raises ValueError, which names the files, where they cannot be used.
    """
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{certificate}{f', {key}' if key else ''}: {why}.") from None


def _no_password() -> bytes:
    """Refuse a key that is encrypted: asking for its password would hang a run without a terminal."""
    raise ValueError("the key is encrypted; give one that is not, in a file that only you can read")

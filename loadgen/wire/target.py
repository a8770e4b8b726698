"""Where requests go: the base URL that a user gives, taken apart."""

import os
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from loadgen.errors import OptionError


@dataclass(frozen=True, slots=True)
class Target:
    """Host and port, the path below which the API lies, and TLS if the URL asks for it."""

    host: str
    port: int
    base_path: str = ""
    tls: ssl.SSLContext | None = None

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
        return f"{self.origin}{self.base_path}"


def _authority(host: str, port: int, *, secure: bool) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == _default_port(secure=secure) else f"{name}:{port}"


def _default_port(*, secure: bool) -> int:
    return 443 if secure else 80


def parse_target(url: str, *, verify: bool = True) -> Target:
    """Take a base URL apart; a path is kept, ``/v1`` at its end is not doubled.

    Raises ValueError, see :func:`_address`.
    """
    parts, host, port = _address(url)
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return Target(host, port, path, open_context(verify=verify) if parts.scheme == "https" else None)


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
    if parts.query or parts.fragment:
        raise ValueError("a base URL has no '?' and no '#'.")
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

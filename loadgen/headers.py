"""Headers and queries that the user adds to each request: their syntax, and which of them are secret.

A secret stands in an option only as a reference, ``env:VARIABLE`` or ``file:PATH``: options show in process lists and
in results.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, 5.6.2."""

_REFERENCE = re.compile(r"(?:(?P<scheme>\S+) )?(?P<source>env|file):(?P<place>\S.*)")

_SECRET = re.compile(r"authorization|cookie|key|token|secret|password|credential", re.IGNORECASE)

_KEY = re.compile(r"(?<![\w-])(?:sk-[\w-]{12,}|(?:hf|gsk|xai|gh[pousr])[_-]\w{16,}|eyJ[\w-]+\.[\w-]+\.[\w-]+)")
"""What keys of OpenAI and alike, Hugging Face, Groq, xAI and GitHub begin with, and JSON Web Tokens."""

_SECRET_FIELD = re.compile(r"api_?key|secret|password|credential|authorization", re.IGNORECASE)
"""Fields of a body; ``token`` alone is no sign of a secret there."""

_OWN = frozenset(
    {"content-length", "transfer-encoding", "connection", "accept-encoding", "x-request-id", "traceparent"}
)
"""Headers that frame a request or name it: they are made for each one."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header as an option has it; its value may be a reference."""

    name: str
    value: str

    @property
    def reference(self) -> "Reference | None":
        """Where its secret is found; None where the value is one itself."""
        match = _REFERENCE.fullmatch(self.value)
        if match is None:
            return None
        return Reference(match["source"], match["place"], "" if match["scheme"] is None else f"{match['scheme']} ")


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is found."""

    source: str
    """``env`` or ``file``."""
    place: str
    prefix: str = ""
    """What stands before the secret in the header, as in ``Bearer``."""


def parse_header(text: str) -> Header:
    """Read ``NAME=VALUE`` or ``Name: value``; raises ValueError, whose text never has the value, for anything else."""
    match = re.match(r"[^=:]*", text)
    assert match is not None
    name, value = match[0].strip(), text[match.end() + 1 :].strip()
    if not text[match.end() :] or not _NAME.fullmatch(name):
        raise ValueError("write NAME=VALUE, as in x-tenant=blue; a name has no spaces.")
    if not value.isprintable() or not value.isascii():
        raise ValueError(f"the value of {name} must be one line of printable ASCII.")
    if name.lower() in _OWN:
        raise ValueError(f"{name} is set for each request.")
    header = Header("Authorization" if name.lower() == "authorization" else name, value)
    if header.reference is None and (is_secret(name) or _has_key(value)):
        raise ValueError(
            f"the value of {name} would show in process lists and results: put it in a variable or a file, and write "
            f"{name}=env:VARIABLE or {name}=file:PATH."
        )
    return header


def is_secret(name: str) -> bool:
    """Tell by its name whether a header, or a parameter of a query, has a secret."""
    return _SECRET.search(name) is not None


def check_no_secrets(value: object, name: str = "") -> None:
    """Raise ValueError, whose text does not have it, for a JSON value with a secret in it: it would be kept."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            check_no_secrets(below, str(key))
    elif isinstance(value, list):
        for below in value:
            check_no_secrets(below, name)
    elif isinstance(value, str) and value and (_SECRET_FIELD.search(name) or _has_key(value)):
        raise ValueError(
            f"the value of {name} would show in process lists and results: send it as a header, as in --header "
            f"x-api-key=env:VARIABLE."
        )


def _has_key(text: str) -> bool:
    return _KEY.search(text) is not None


def check_query(query: str) -> None:
    """Raise ValueError, whose text does not have it, for a query that would show a secret or break a request."""
    if not query.isprintable() or not query.isascii() or " " in query:
        raise ValueError("a query must be printable ASCII without spaces; write other characters as %XX.")
    for name, value in parse_qsl(query, keep_blank_values=True):
        if value and is_secret(name):
            raise ValueError(
                f"{name} in its query would show in process lists and results: send it as a header, as in "
                f"--header x-{name}=env:VARIABLE."
            )

"""Secrets: from the environment or a file, never from a flag, which would show in a process list."""

import os
from pathlib import Path

from loadgen.errors import OptionError
from loadgen.headers import Header
from loadgen.launch.inheritance import withhold


def api_key() -> str | None:
    """Return the engine's key: OPENAI_API_KEY, or the content of the file that OPENAI_API_KEY_FILE names."""
    return _secret("OPENAI_API_KEY", "an API key")


def grafana_token() -> str | None:
    """Return GRAFANA_TOKEN, or the content of the file that GRAFANA_TOKEN_FILE names."""
    return _secret("GRAFANA_TOKEN", "a token")


def resolved(header: Header) -> str:
    """Return the value of a header, its secret in place of the reference; raises OptionError where there is none."""
    reference = header.reference
    if reference is None:
        return header.value
    where, what = f"--header {header.name}", "the value of a header"
    if reference.source == "env":
        withhold(reference.place)
        secret = os.environ.get(reference.place, "").strip()
        if not secret:
            raise OptionError(f"{where}: the variable {reference.place} is not set.")
        return reference.prefix + _checked(secret, f"{where}, {reference.place}", what)
    try:
        secret = Path(reference.place).read_text().strip()
    except OSError as error:
        raise OptionError(f"{where}: cannot read {reference.place} ({error.strerror}).") from None
    except ValueError:  # not text, or no path
        raise OptionError(f"{where}: {reference.place} is not a file with one line of printable ASCII.") from None
    if not secret:
        raise OptionError(f"{where}: {reference.place} is empty.")
    return reference.prefix + _checked(secret, f"{where}, {reference.place}", what)


def _secret(variable: str, what: str) -> str | None:
    if secret := os.environ.get(variable, "").strip():
        return _checked(secret, variable, what)
    name = os.environ.get(f"{variable}_FILE")
    if not name:
        return None
    try:
        return _checked(Path(name).read_text().strip(), name, what)
    except OSError as error:
        raise OptionError(f"{variable}_FILE: cannot read {name} ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise OptionError(f"{name}: {what} is one line of printable ASCII.") from None


def _checked(secret: str, where: str, what: str) -> str:
    if not secret.isprintable() or not secret.isascii():
        raise OptionError(f"{where}: {what} is one line of printable ASCII.")
    return secret

"""What child processes inherit of our environment: everything but secrets that are not theirs."""

import os
import re

_SECRET = re.compile("KEY|TOKEN(?!IZER)|SECRET|PASSWORD|CREDENTIAL")
"""In the name of a variable."""

_OURS = re.compile("OPENAI_.*KEY|GRAFANA_TOKEN|HF_TOKEN|HUGGING_FACE_HUB_TOKEN")
"""Those that this project reads itself."""

_named: set[str] = set()


def withhold(variable: str) -> None:
    """Note that an option names a variable as one with a secret, whatever it is called."""
    _named.add(variable)


def without_secrets(*kept: str) -> dict[str, str]:
    """Return the environment without secrets, for engines and helpers: they need none, and some log what they find.

    Names that begin with one of ``kept`` stay.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _named and (name.startswith(kept) or not _is(_SECRET, name))
    }


def without_ours() -> dict[str, str]:
    """Return the environment without the secrets that this project reads: for tools with credentials of their own."""
    return {name: value for name, value in os.environ.items() if not _is(_OURS, name)}


def _is(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.search(name.upper()) is not None

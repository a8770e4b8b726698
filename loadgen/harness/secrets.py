"""The API key: from the environment or a file, never from a flag, which would show in a process list."""

import os
from pathlib import Path

from loadgen.errors import UsageError


def api_key() -> str | None:
    """Return OPENAI_API_KEY, or the content of the file that OPENAI_API_KEY_FILE names."""
    if key := os.environ.get("OPENAI_API_KEY", "").strip():
        return _checked(key, "OPENAI_API_KEY")
    name = os.environ.get("OPENAI_API_KEY_FILE")
    if not name:
        return None
    try:
        return _checked(Path(name).read_text().strip(), name)
    except OSError as error:
        raise UsageError(f"OPENAI_API_KEY_FILE: cannot read {name} ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name}: an API key is one line of printable ASCII.") from None


def _checked(key: str, where: str) -> str:
    if not key.isprintable() or not key.isascii():
        raise UsageError(f"{where}: an API key is one line of printable ASCII.")
    return key

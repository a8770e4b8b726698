"""Where things of ours lie on this machine, as the XDG base directories say."""

import os
from pathlib import Path

from loadgen.errors import UsageError


def state_folder() -> Path:
    """Return where running engines, their logs and locks are."""
    return _home("XDG_STATE_HOME", ".local/state") / "loadgen"


def data_folder() -> Path:
    """Return where engines' environments are."""
    return _home("XDG_DATA_HOME", ".local/share") / "loadgen"


def cache_folder() -> Path:
    """Return where models are that can be made again."""
    return _home("XDG_CACHE_HOME", ".cache") / "loadgen"


def made(folder: Path, variable: str) -> Path:
    """Make a folder, if it is not there; raises UsageError that says by which variable it lies elsewhere."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made ({error.strerror}); set {variable} to a folder of yours.") from None
    return folder


def _home(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default)

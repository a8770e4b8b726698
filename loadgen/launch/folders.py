"""The folders for state, data and caches on this machine, as in the XDG base directory specification."""

import os
from pathlib import Path

from loadgen.errors import EngineError


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
    """Create a folder unless it exists; raises EngineError, which names the environment variable that moves it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"{folder}: cannot be created ({error.strerror}); set {variable} to a folder that you can write to."
        ) from None
    return folder


def _home(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default)

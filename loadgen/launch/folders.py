"""Where things of ours lie on this machine, as the XDG base directories say."""

import os
from pathlib import Path


def state_folder() -> Path:
    """Return where running engines, their logs and locks are."""
    return _home("XDG_STATE_HOME", ".local/state") / "loadgen"


def data_folder() -> Path:
    """Return where engines' environments are."""
    return _home("XDG_DATA_HOME", ".local/share") / "loadgen"


def cache_folder() -> Path:
    """Return where models are that can be made again."""
    return _home("XDG_CACHE_HOME", ".cache") / "loadgen"


def _home(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default)

"""The locustfiles that are installed with the package, and the command line that runs one."""

import sys
from collections.abc import Mapping
from pathlib import Path

from loadgen.errors import OptionError

_FOLDER = Path(__file__).parents[1] / "locustfiles"


def shipped() -> Mapping[str, Path]:
    """Return the locustfiles of the package, by the name that ``loadgen run`` takes."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.py"))}


def find_locustfile(name: str) -> str:
    """Return what ``locust -f`` takes for ``NAME`` in ``loadgen run NAME``.

    NAME is one of :func:`shipped`, or what Locust takes itself: a file, a folder of them, a URL, or several of these,
    separated by commas. Raises OptionError for a name or file that does not exist.
    """
    return ",".join(_find(part.strip()) for part in name.split(","))


def locust_command(locustfile: str | Path) -> list[str]:
    """Return the command line that runs a locustfile, to which Locust's options and ours can be added.

    ``-P``: a file of the current folder that is called ``locust.py`` is not taken for Locust.
    """
    return [sys.executable, "-P", "-m", "locust", "-f", str(locustfile)]


def _find(name: str) -> str:
    path = Path(name)
    if name in shipped():
        return str(shipped()[name])
    if "://" in name or path.is_dir() or (path.is_file() and path.suffix == ".py"):
        return name
    names = ", ".join(shipped())
    raise OptionError(f"run {name}: there is no such locustfile; give {names}, or the path of a .py file of your own.")

"""Has ``locust -f FILE --help`` list the options of loadgen if FILE uses it.

Locust prints its help before it loads FILE, and has no hook that runs earlier. gevent has one. The first thing that
Locust does is to let gevent patch the standard library, and gevent then calls the entry points of the group
``gevent.plugins.monkey.did_patch_all``. The entry point of this package is :func:`patched`. It is called in all
programs of an environment that gevent patches, so this module imports little.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

_HELP = {"-h", "--help"}


def patched(event: object) -> None:
    """Add loadgen's options to Locust's help. Does nothing if another program was patched, or no help is wanted."""
    del event
    if "locust" in sys.modules and not _HELP.isdisjoint(sys.argv[1:]):
        sys.meta_path.insert(0, _WhenLocustIsImported())


class _WhenLocustIsImported(MetaPathFinder):
    """Adds the options as soon as Locust can take them: the package is imported, its command line not yet parsed."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:  # noqa: ARG002
        """Add the options before ``locust.main`` is found by other finders."""
        if name == "locust.main":
            sys.meta_path.remove(self)
            if any("loadgen" in file.read_text(errors="replace") for file in _locustfiles()):
                import loadgen.harness  # noqa: F401 adds the options


def _locustfiles() -> Sequence[Path]:
    """Return the files that ``-f``, or Locust's configuration, names on this machine."""
    from locust.argument_parser import parse_locustfile_option

    options = parse_locustfile_option([word for word in sys.argv[1:] if word not in _HELP])
    locustfile: str = options.locustfile  # type: ignore[attr-defined]  # Locust annotates another type
    named = [Path(name.strip()) for name in locustfile.split(",")]
    inside = [file for folder in named if folder.is_dir() for file in folder.rglob("*.py")]
    return [file for file in named if file.is_file()] + inside

"""Engines' own virtual environments: made on first use from pinned requirements, and kept."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadgen.engines.engine import Environment
from loadgen.errors import EngineError
from loadgen.launch.folders import data_folder, made
from loadgen.launch.inheritance import without_secrets
from loadgen.launch.locks import locked
from loadgen.live.status import Status

_COMPLETE = "loadgen-complete"
_BUILT_ON = ("torch", "transformers", "xllamacpp", "vllm")
"""Packages whose version says what was measured, whoever asked for them."""

_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def programs(environment: Environment, name: str) -> Path:
    """Return the folder of an environment's programs, whether it is made already or not."""
    return folder(environment, name) / "bin" if environment.requirements else Path(sys.executable).parent


def folder(environment: Environment, name: str) -> Path:
    """Return where an engine's environment lies: another one for each change of its requirements."""
    wanted = [environment.requirements, environment.uninstall, sys.version_info[:2]]
    identity = json.dumps([*wanted, environment.built_on] if environment.built_on else wanted)
    return data_folder() / "environments" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def is_made(environment: Environment, name: str) -> bool:
    """Whether it can be used as it is."""
    return not environment.requirements or (folder(environment, name) / _COMPLETE).exists()


def lacks(environment: Environment, name: str) -> list[str]:
    """Return the programs that it takes to install it and that are not on this machine."""
    if is_made(environment, name):
        return []
    return [program for program in environment.programs if shutil.which(program) is None]


def make(environment: Environment, name: str, status: Status) -> None:
    """Create an environment unless it exists, or wait for another process that does.

    Raises EngineError with the last lines of pip's output if that fails.
    """
    if is_made(environment, name):
        return
    place = folder(environment, name)
    made(place.parent, "XDG_DATA_HOME")
    lock = place.with_name(place.name + ".lock")
    with locked(lock, f"waiting for the environment of {name}, made by {{}}", "installing", status.say) as held:
        if is_made(environment, name):  # somebody else has made it meanwhile
            return
        _check_disk(environment, name, place.parent)
        first, *more = environment.requirements
        status.say(f"installing {name}: {first} and {len(more)} more (about {environment.size_gb:g} GB)")
        status.now(f"installing {name}")
        shutil.rmtree(place, ignore_errors=True)  # what a kill left half
        _run([sys.executable, "-m", "venv", str(place)], name, held)
        pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        install = [*pip, "install", *environment.built_on]
        if environment.built_on:
            _run(install, name, held)
            install.append("--no-build-isolation")  # or pip would build on newer ones of its own choice
        _run([*install, *environment.requirements], name, held)
        if environment.uninstall:
            _run([*pip, "uninstall", "--yes", *environment.uninstall], name, held)
        (place / _COMPLETE).touch()
        status.say(f"installed {name} in {place}")


def versions(environment: Environment, name: str) -> dict[str, str]:
    """Return the versions of the packages that were asked for, and of those that engines build on."""
    asked = [re.split(r"[\[=<>!~ ;]", requirement)[0] for requirement in environment.requirements]
    python = programs(environment, name) / "python"
    command = [str(python), "-c", _VERSIONS, *dict.fromkeys([*asked, *_BUILT_ON])]
    done = subprocess.run(  # noqa: S603 our own
        command, env=without_secrets(), capture_output=True, text=True, check=False
    )
    found: dict[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def _check_disk(environment: Environment, name: str, place: Path) -> None:
    free = shutil.disk_usage(place).free / 1e9
    if free < 1.5 * environment.size_gb:  # packages are unpacked beside their archives
        raise EngineError(
            f"{name} needs about {1.5 * environment.size_gb:.1f} GB in {place} to be installed, {free:.1f} GB are "
            "free; make room, or set XDG_DATA_HOME to a folder on another disk."
        )


def _run(command: Sequence[str], name: str, lock: int) -> None:
    # It holds the lock as well: if we are killed, nobody begins anew as long as pip goes on.
    done = subprocess.run(  # noqa: S603 pip and venv
        command, env=without_secrets("PIP_"), capture_output=True, text=True, check=False, pass_fds=(lock,)
    )
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise EngineError(f"{name} cannot be installed; `{' '.join(command)}` printed:", last)

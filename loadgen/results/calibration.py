"""``calibration.json``: how exact this machine was measured to be. ``loadgen calibrate`` writes it, runs read it."""

import os
from pathlib import Path
from typing import Literal

import msgspec

from loadgen.errors import OptionError
from loadgen.measure.envelope import Cell, Envelope, Sweep
from loadgen.results import files
from loadgen.results.machine import Machine, this_machine

VARIABLE = "LOADGEN_CALIBRATION"
"""Environment variable that names another file."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, when and where."""

    schema: Literal[1] = 1
    made_at: str
    """Wall time, ISO 8601."""
    machine: Machine
    sweeps: tuple[Sweep, ...]
    envelope: tuple[Cell, ...]


def path() -> Path:
    """Return where the calibration is kept; raises RuntimeError where this user has no home."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "loadgen" / "calibration.json"


def writable_path() -> Path:
    """Return the file for the calibration and create its folder; raises OptionError if it cannot be written."""
    try:
        file = path()
    except RuntimeError:
        raise OptionError(
            f"this user has no home folder to keep the calibration in; name a file in {VARIABLE}."
        ) from None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        probe = file.with_name(f".{file.name}-{os.getpid()}")
        probe.touch()
        probe.unlink()
    except OSError as error:
        said = f"{VARIABLE}={file}" if os.environ.get(VARIABLE) else str(file)
        raise OptionError(f"{said}: cannot write there ({error.strerror}); name another file in {VARIABLE}.") from None
    return file


def save(calibration: Calibration, file: Path) -> None:
    """Write the calibration, whole or not at all; raises OptionError if that fails."""
    try:
        files.write(file, msgspec.json.format(msgspec.json.encode(calibration), indent=2) + b"\n")
    except OSError as error:
        raise OptionError(f"{file}: cannot write there ({error.strerror}); name another file in {VARIABLE}.") from None


def envelope_here() -> tuple[Envelope | None, str | None]:
    """Return the envelope of this machine, or None and why there is none. Never raises: no run ends for want of it."""
    try:
        data = path().read_bytes()
    except (FileNotFoundError, RuntimeError):
        return None, "this machine is not calibrated"
    except OSError as error:
        return None, f"the calibration cannot be read ({error.strerror})"
    try:
        calibration = msgspec.json.decode(data, type=Calibration)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None, "the calibration is damaged"
    if differing := _differing(calibration.machine, this_machine()):
        return None, differing
    return Envelope(made_at=calibration.made_at, held=calibration.envelope), None


def _differing(then: Machine, now: Machine) -> str | None:
    """Return what keeps a calibration from being of this machine, if anything."""
    for name, of in (("cpu", "processor"), ("cpus", "number of cores"), ("platform", "system"), ("python", "Python")):
        was, is_ = getattr(then, name), getattr(now, name)
        if was != is_:
            return f"the calibration is of another machine: its {of} was {was}, here it is {is_}"
    if then.loadgen != now.loadgen:
        return f"the calibration is of another loadgen version: {then.loadgen}, this is {now.loadgen}"
    return None

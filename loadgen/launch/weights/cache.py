"""Folders that are made once and kept: each is there whole, or not at all."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from loadgen.errors import EngineError

SPARE = 1.05
"""Free space asked for, by the size of what is made."""

_ELSEWHERE = "XDG_CACHE_HOME=FOLDER moves it to another disk."

_UNFINISHED = ".unfinished"
"""Folder, beside those that are kept, of those that are being made."""

_LOCK = ".lock"


def kept(folder: Path, size: int, make: Callable[[Path], None]) -> None:
    """Create a folder of about ``size`` bytes, which ``make`` fills, unless it exists.

    It is filled under another name and renamed when it is complete. Remains of processes that were killed are removed
    by the next one. Raises EngineError if the disk cannot be written to or has too little space.
    """
    if folder.exists():
        return
    with _unfinished(folder, size) as made:
        make(made)
        with _locked(made.parent):
            if not folder.exists():  # somebody else may have been faster
                (made / _LOCK).unlink()
                made.rename(folder)


@contextmanager
def _unfinished(folder: Path, size: int) -> Iterator[Path]:
    """Make a folder to work in, locked for as long as this process works in it."""
    place = folder.with_name(_UNFINISHED)
    made = place / f"{folder.name}-{secrets.token_hex(4)}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            _remove_leftovers(place)
            _check_space(folder, size)
            made.mkdir()
            lock = _lock(made, fcntl.LOCK_EX)
    except OSError as error:
        raise EngineError(f"{place}: cannot write there ({error.strerror}). {_ELSEWHERE}") from None
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be alone in a folder, for the moment that it takes to begin or to end something in it."""
    lock = _lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, how: int) -> int:
    """Lock a folder until the descriptor is closed, or this process has ended."""
    file = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return file


def _remove_leftovers(place: Path) -> None:
    for left in place.glob("*/"):
        try:
            lock = _lock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its maker is at work
        shutil.rmtree(left, ignore_errors=True)
        os.close(lock)


def _check_space(folder: Path, size: int) -> None:
    needed, free = int(size * SPARE), shutil.disk_usage(folder.parent).free
    if free < needed:
        raise EngineError(
            f"{folder.name} needs {needed / 1e9:,.1f} GB in {folder.parent}, where {free / 1e9:,.1f} GB are free. "
            f"Make room there. {_ELSEWHERE}"
        )

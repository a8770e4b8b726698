"""The results folder: written as the run goes on, read back at any time."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from loadgen.errors import UsageError
from loadgen.record import RequestRecord, from_line, to_line
from loadgen.results.manifest import Manifest, from_json, to_json

MANIFEST = "run.json"
RECORDS = "records.jsonl"


class RunFolder:
    """The folder of a run that is going on. Each record is on its way to the disk before the next request starts."""

    def __init__(self, parent: Path, manifest: Manifest) -> None:
        self.path = parent / manifest.run_id
        try:
            self.path.mkdir(parents=True)
            self.write_manifest(manifest)
            # Unbuffered: what was written survives a kill of this process.
            self._records = os.open(self.path / RECORDS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = 0
        except OSError as error:
            raise _unwritable(parent, error) from None

    def append(self, record: RequestRecord) -> None:
        """Append one record, whole or not at all; raises OSError where the disk does not take it."""
        line = to_line(record)
        try:
            left = line
            while left:
                left = left[os.write(self._records, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._records, self._size)
            raise
        self._size += len(line)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write ``run.json``, whole or not at all."""
        write(self.path / MANIFEST, to_json(manifest))

    def close(self) -> None:
        """Close the records' file."""
        os.close(self._records)


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


def check_writable(parent: Path) -> None:
    """Raise UsageError unless a run's folder can be made in ``parent``; leaves nothing behind."""
    try:
        existing = parent
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise UsageError(f"--results {parent}: {existing} is not a folder; name another one.")
        probe = existing / f".loadgen-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise _unwritable(parent, error) from None


def _unwritable(parent: Path, error: OSError) -> UsageError:
    return UsageError(f"--results {parent}: cannot write there ({error.strerror}); name another folder.")


def read(folder: Path) -> tuple[Manifest, list[RequestRecord]]:
    """Read a run back; raises UsageError where the folder is none of ours.

    A last line that the end of the process cut in two is left out: it is a request that was in flight.
    """
    try:
        manifest = from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{folder}: no {MANIFEST} there; name the results folder of a run.") from None
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"{folder / MANIFEST}: {error}") from None
    return manifest, _records(folder / RECORDS)


def _records(path: Path) -> list[RequestRecord]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    whole = data[: data.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            records.append(from_line(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
    return records

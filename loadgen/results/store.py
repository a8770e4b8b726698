"""The results folder: written as the run goes on by each process, merged at its end, read back at any time."""

import os
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from loadgen.errors import DataError, OptionError
from loadgen.measure.records import RecordColumns, Records
from loadgen.record import RequestRecord, from_line, to_line
from loadgen.results.files import replacing, write
from loadgen.results.manifest import Manifest, from_json, to_json

MANIFEST = "run.json"
RECORDS = "records.jsonl"
_OF_ONE_PROCESS = "records-*.jsonl"
_RECEIVED = "received-*.jsonl"
_READ_AT_ONCE = 4 << 20
"""Bytes of a file that are in memory, or whose records are objects, at the same time."""


class RecordFile:
    """The records of one process. Each is on its way to the disk before the next request starts."""

    def __init__(self, path: Path) -> None:
        try:
            # Unbuffered: what was written survives a kill of this process. A link is not followed: it is not ours.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise _unwritable(path.parent, error) from None
        self._path = path
        self._size = 0

    def append(self, record: RequestRecord) -> None:
        """Append one record, whole or not at all; raises OSError where the disk does not take it."""
        line = to_line(record)
        try:
            left = line
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._size += len(line)

    def put_back(self) -> bool:
        """Write it again where others merged it in the belief that we were gone; tell whether that was so.

        Reading takes each request once.
        """
        is_merged = os.fstat(self._file).st_nlink == 0
        if is_merged:
            with replacing(self._path) as file:
                for start in range(0, self._size, _READ_AT_ONCE):
                    file.write(os.pread(self._file, min(_READ_AT_ONCE, self._size - start), start))
        return is_merged

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class RunFolder:
    """The folder of a run that is going on. Each process has a file of its own in it until they are merged."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Create the folder and its manifest; raises OptionError if ``--results`` cannot be written."""
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True)
            self.write_manifest(manifest)
        except OSError as error:
            raise _unwritable(path.parent, error) from None

    def write_manifest(self, manifest: Manifest) -> None:
        """Write ``run.json``, whole or not at all."""
        write(self.path / MANIFEST, to_json(manifest))

    def has_records_of(self, worker: int) -> bool:
        """Whether a worker writes its file here: its disk is ours."""
        return records_path(self.path, worker).exists()

    def received(self, worker: int) -> RecordFile:
        """Return a file for what a worker with a disk of its own reports."""
        return RecordFile(self.path / _RECEIVED.replace("*", str(worker)))


def records_path(folder: Path, worker: int) -> Path:
    """Return the file of one process, as long as the run goes on."""
    return folder / _OF_ONE_PROCESS.replace("*", str(worker))


def merge(folder: Path) -> None:
    """Put the files of all processes together into ``records.jsonl``, leaving out lines that a kill cut in two.

    What a worker has reported counts only where its own file is not there. If this is interrupted, nothing is lost:
    reading takes each request once.
    """
    parts = _parts(folder)
    if not parts:
        return
    whole = folder / RECORDS
    with replacing(whole) as file:
        # A worker that was merged while it was frozen writes all of its records again.
        merged = set[bytes]()
        for line in _whole_lines(whole) if whole.exists() else ():
            file.write(line)
            merged.add(_digest(line))
        for part in parts:
            file.writelines(line for line in _whole_lines(part) if not merged or _digest(line) not in merged)
    for part in {*parts, *folder.glob(_RECEIVED)}:
        part.unlink()


def _digest(line: bytes) -> bytes:
    """Return what stands for a line, which may have the times of hundreds of tokens."""
    return blake2b(line, digest_size=16).digest()


def merge_late(folder: Path) -> None:
    """Merge the records that a worker wrote after the end of its run.

    A run without an end is left alone, as it may still be going on. Raises DataError if the folder is not the results
    folder of a run.
    """
    if read_manifest(folder).ended is not None:
        merge(folder)


def _parts(folder: Path) -> list[Path]:
    """Return the files of single processes: their own, or where there is none what was received of them."""
    own = {path.stem.partition("-")[2]: path for path in folder.glob(_OF_ONE_PROCESS)}
    received = {path.stem.partition("-")[2]: path for path in folder.glob(_RECEIVED)}
    return [path for _, path in sorted((received | own).items())]


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file one at a time, as a long run has hundreds of megabytes; leave out one cut in two."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def check_writable(parent: Path) -> None:
    """Raise OptionError unless a run's folder can be created in ``parent``; no file remains."""
    try:
        existing = parent
        while not existing.exists():
            existing = existing.parent
        if not existing.is_dir():
            raise OptionError(f"--results {parent}: {existing} is not a folder; name another one.")
        probe = existing / f".loadgen-{os.getpid()}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        raise _unwritable(parent, error) from None


def _unwritable(parent: Path, error: OSError) -> OptionError:
    return OptionError(f"--results {parent}: cannot write there ({error.strerror}); name another folder.")


def read_folder(folder: Path | str) -> tuple[Manifest, Records]:
    """Read the manifest and the records of a run, merged or not; raises DataError if one of them is not valid.

    A last line that is cut in two is left out: the process ended while it recorded that request.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    parts = _parts(folder)
    columns = RecordColumns()
    for path in [folder / RECORDS, *parts]:
        _read_into(columns, path)
    records = Records(columns)
    return manifest, _each_once(records) if parts else records


def _each_once(records: Records) -> Records:
    """Return the records without those of which a later file has the same request."""
    places = {request_id: place for place, request_id in enumerate(records.values("request_id"))}
    return records if len(places) == len(records) else records.take(np.fromiter(places.values(), dtype=np.intp))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a run; raises DataError if the folder has none or it is not valid."""
    try:
        return from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise DataError(f"{folder}: no {MANIFEST} there; name the results folder of a run.") from None
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(f"{folder / MANIFEST}: {error}") from None


def _read_into(columns: RecordColumns, path: Path) -> None:
    """Add the records of a file, some megabytes of it at a time."""
    number, batch = 0, list[RequestRecord]()
    try:
        with path.open("rb") as file:
            while lines := file.readlines(_READ_AT_ONCE):
                if not lines[-1].endswith(b"\n"):
                    lines.pop()
                batch.clear()
                batch.extend(map(from_line, lines))
                columns.add(batch)
                number += len(batch)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}, line {number + len(batch) + 1}: {error}") from None
    except OverflowError:
        last = number + len(batch)
        raise DataError(f"{path}, lines {number + 1} to {last}: an integer of more than 64 bits") from None

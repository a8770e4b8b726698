"""Rows of a data file: JSON lines or one JSON array, in UTF-8 or UTF-16, compressed with gzip or not."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_GZIP = b"\x1f\x8b"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, and the encodings that they stand for."""


class Row(NamedTuple):
    """A row, and where it stands, for messages."""

    value: dict[str, Any]
    where: str


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a file.

    Raises OSError if the file cannot be read, and ValueError, which names the line or item, if it holds anything but
    JSON objects: one a line, or the items of one array.
    """
    text = _text(path)
    read = _items if text.lstrip().startswith("[") else _lines
    rows = list(read(text, path))
    if not rows:
        raise ValueError(f"{path} is empty; it needs one JSON object a line, or an array of objects.")
    return rows


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: a damaged gzip file ({error}).") from None
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        shown = encoding.upper() if encoding != "utf-8-sig" else "UTF-8"
        raise ValueError(f"{path}, line {line}: not {shown} text ({error.reason}).") from None


def _lines(text: str, path: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):  # only at line feeds: a text may hold other separators
        if line.strip():
            where = f"{path}, line {number}"
            yield Row(_object(_decoded(line, where), where), where)


def _items(text: str, path: Path) -> Iterator[Row]:
    values = _decoded(text, str(path))
    for number, value in enumerate(values, start=1):
        where = f"{path}, item {number}"
        yield Row(_object(value, where), where)


def _decoded(text: str, where: str) -> Any:  # noqa: ANN401 whatever JSON can hold
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error}).") from None


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        text = f"{where}: a JSON object is needed, got {type(value).__name__}."
        raise ValueError(text)  # noqa: TRY004 the contents of the file are wrong, not an argument's type
    return value

"""Server-sent events, as the HTML standard defines them: bytes to events, no sockets, no JSON.

A line ends in LF, CR or CRLF and in nothing else: U+2028 and its like are text, which is why ``str.splitlines`` and
readers built on it must not be used here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

_LINE_END = re.compile(rb"\r\n|\n|\r")
"""Searches for the ends of lines only. A pattern that took in their text as well would start anew at each byte of a
body without a line end, in time that grows with the square of its length."""

_DATA = b"data:"
_BLANK = b"\n\n"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; ``end`` is the offset just after the blank line that completed it."""

    data: bytes
    end: int
    name: bytes = b""


def parse_sse(body: bytes, *, complete: bool = True) -> list[SseEvent]:
    """Split the whole body of a stream into its events, in time proportional to its length.

    ``complete`` says that the body did not break off: then a last event without its blank line counts as well,
    as some servers end on their last event and a single line end.
    """
    events: list[SseEvent] = []
    data: list[bytes] = []
    name = b""
    end = len(BOM) if body.startswith(BOM) else 0
    for line_end in _LINE_END.finditer(body, end):
        line = body[end : line_end.start()]
        end = line_end.end()
        if not line:
            if data:
                events.append(SseEvent(b"\n".join(data), end, name))
            data, name = [], b""
            continue
        field, value = _field(line)
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    if complete:
        field, value = _field(body[end:])
        if field == b"data":
            data.append(value)
        if data:
            events.append(SseEvent(b"\n".join(data), len(body), name))
    return events


def split_plain(body: bytes) -> tuple[list[bytes], list[int]] | None:
    """Split a body that is nothing but ``data:`` lines with LF ends, one an event; None of any other.

    Returns the data of each event, perhaps with the space before it, and the offset after its blank line. Three
    searches prove the shape, and one split does the work: most engines' streams take this way. A body with an event
    without data is left to :func:`parse_sse`, which ignores it.
    """
    if not _may_be_plain(body):
        return None
    parts = body[len(_DATA) : -len(_BLANK)].split(_BLANK + _DATA)
    if body.count(b"\n") != len(_BLANK) * len(parts) or not all(map(bytes.strip, parts)):
        return None
    each = len(_DATA) + len(_BLANK)
    return parts, [length + each * count for count, length in enumerate(accumulate(map(len, parts)), start=1)]


@dataclass(frozen=True, slots=True)
class BothEnds:
    """The events of a stream up to the first wanted one, and those from the last wanted one on."""

    parts: list[bytes]
    """Data of each event, perhaps with the space before it."""
    ends: list[int]
    """Offset after the blank line of each."""
    head: int
    """Number of events up to the first wanted one, including it."""
    between: tuple[int, int]
    """Start and end of the bytes that were not looked at."""


def split_both_ends(body: bytes, wanted: Callable[[bytes], object]) -> BothEnds | None:
    """Split off both ends of a body that is ``data:`` lines with LF ends; None where the ends are anything else."""
    if not _may_be_plain(body):
        return None
    spans: list[tuple[int, int]] = []
    end = 0
    while end < len(body):
        start, end = end, body.find(_BLANK, end) + len(_BLANK)
        if end <= start:  # blank lines that overlap, as in three line ends: no event ends there
            return None
        spans.append((start, end))
        if wanted(body[start:end]):
            break
    head = len(spans)
    tail: list[tuple[int, int]] = []
    start = len(body)
    while start > end:
        event_end, start = start, max(end, body.rfind(_BLANK, end, start - len(_BLANK)) + len(_BLANK))
        tail.append((start, event_end))
        if wanted(body[start:event_end]):
            break
    spans += reversed(tail)
    parts = [body[start + len(_DATA) : end - len(_BLANK)] for start, end in spans if body.startswith(_DATA, start)]
    if len(parts) < len(spans) or any(part.find(b"\n") >= 0 or not part.strip() for part in parts):
        return None
    return BothEnds(parts, [end for _, end in spans], head, (end, start))


def _may_be_plain(body: bytes) -> bool:
    return body.startswith(_DATA) and body.endswith(_BLANK) and b"\r" not in body


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Split a line into field and value, without the one space that may follow the colon; a comment has no field."""
    field, _, value = line.partition(b":")
    return field, value.removeprefix(b" ")

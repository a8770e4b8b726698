"""Server-sent events, as the HTML standard defines them: bytes to events, no sockets, no JSON.

A line ends in LF, CR or CRLF and in nothing else: U+2028 and its like are text, which is why ``str.splitlines`` and
readers built on it must not be used here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
_DATA = b"data:"
_BLANK = b"\n\n"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event; ``end`` is the offset just behind the blank line that completed it."""

    data: bytes
    end: int
    name: bytes = b""


def parse_sse(body: bytes, *, complete: bool = True) -> list[SseEvent]:
    """Split the whole body of a stream into its events.

    ``complete`` says that the body did not break off: then a last event without its blank line counts as well,
    as some servers end on ``data: [DONE]`` and a single line end.
    """
    events: list[SseEvent] = []
    data: list[bytes] = []
    name = b""
    end = len(_BOM) if body.startswith(_BOM) else 0
    for match in _LINE.finditer(body, end):
        end = match.end()
        line = match.group(1)
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

    Returns the data of each event, perhaps with the space before it, and the offset behind its blank line. Three
    searches prove the shape, and one split does the work: most engines' streams take this way.
    """
    if not _may_be_plain(body):
        return None
    parts = body[len(_DATA) : -len(_BLANK)].split(_BLANK + _DATA)
    if body.count(b"\n") != len(_BLANK) * len(parts):
        return None
    each = len(_DATA) + len(_BLANK)
    return parts, [length + each * count for count, length in enumerate(accumulate(map(len, parts)), start=1)]


def split_both_ends(body: bytes, wanted: Callable[[bytes], object]) -> tuple[list[bytes], list[int]] | None:
    """Split off the events up to the first wanted one and those from the last wanted one on; None as above.

    What lies between is not looked at.
    """
    if not _may_be_plain(body):
        return None
    spans: list[tuple[int, int]] = []
    end = 0
    while end < len(body):
        start, end = end, body.index(_BLANK, end) + len(_BLANK)
        spans.append((start, end))
        if wanted(body[start:end]):
            break
    tail: list[tuple[int, int]] = []
    start = len(body)
    while start > end:
        event_end, start = start, body.rfind(_BLANK, end - len(_BLANK), start - len(_BLANK)) + len(_BLANK)
        tail.append((start, event_end))
        if wanted(body[start:event_end]):
            break
    spans += reversed(tail)
    parts = [body[start + len(_DATA) : end - len(_BLANK)] for start, end in spans if body.startswith(_DATA, start)]
    if len(parts) < len(spans) or any(b"\n" in part for part in parts):
        return None
    return parts, [end for _, end in spans]


def _may_be_plain(body: bytes) -> bool:
    return body.startswith(_DATA) and body.endswith(_BLANK) and b"\r" not in body


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Split a line into field and value, without the one space that may follow the colon; a comment has no field."""
    field, _, value = line.partition(b":")
    return field, value.removeprefix(b" ")

"""Server-sent events, as the HTML standard defines them: bytes to events, no sockets, no JSON.

A line ends in LF, CR or CRLF and in nothing else: U+2028 and its like are text, which is why ``str.splitlines`` and
readers built on it must not be used here.
"""

import re
from dataclasses import dataclass

_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
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


def split_plain(body: bytes) -> list[bytes] | None:
    """Split a body that is nothing but ``data:`` lines with LF ends, one an event; None of any other.

    Three searches prove the shape, and one split does the work: most engines' streams take this way.
    """
    if not body.startswith(b"data:") or not body.endswith(b"\n\n") or b"\r" in body:
        return None
    count = body.count(b"\n\ndata:") + 1
    if body.count(b"\n") != 2 * count:
        return None
    return [part.removeprefix(b" ") for part in body[5:-2].split(b"\n\ndata:")]


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Split a line into field and value, without the one space that may follow the colon; a comment has no field."""
    field, _, value = line.partition(b":")
    return field, value.removeprefix(b" ")

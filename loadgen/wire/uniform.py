"""Proof, without parsing each event, that a stretch of a stream holds nothing but tokens.

An engine writes the same bytes around the text of each token: id, time, model, index. So an event is a template, a
prefix and a suffix, with text between them. Where one event is known to be a token's, every other event with the same
template is one as well, provided that its text is a well-formed JSON string. Counting proves that: as many templates
as events, no line end besides theirs, no quote besides theirs and those that are escaped. This costs about a tenth of
parsing.

Templates change now and then, where a server writes the time of each event. What does not follow a template, or changes
it too often, is not proven and has to be parsed.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from loadgen.wire.dialect import DialectError

_BLANK = b"\n\n"
_DATA = b"data:"
_QUOTE, _FIRST_TEXT = ord(b'"'), ord(b" ")

_WINDOW = 65_536
"""Bytes looked at together: some 300 events of the usual size."""

_FEWEST = 8
"""Events that a template has to cover on average; below, parsing is cheaper than the proof."""

_SHORT_ESCAPES = frozenset(rb'"\/bfnrt')
"""What may follow a backslash in a JSON string, but for the u of a number."""

_NUMBERED = re.compile(rb"u(?![dD][89a-fA-F])[0-9a-fA-F]{4}")
"""An escape by number, after its backslash. Halves of surrogate pairs are left to the parser."""

_PROBE = "probe"


class Reader(Protocol):
    """What a proof needs to know of a dialect."""

    def read_events(self, events: Sequence[bytes]) -> Sequence[object]:
        """Read events; one that is a piece of text and nothing else may be given as that text."""

    def text_span(self, event: bytes) -> tuple[int, int] | None:
        """Return where the text of a token's event seems to lie; None where there is no one place."""


def holds_tokens_only(body: bytes, start: int, end: int, reader: Reader) -> bool:
    """Tell whether every event in ``body[start:end]`` is proven to be a piece of text, or an empty text.

    The bytes have to begin and end with an event.
    """
    events = templates = 0
    template: tuple[bytes, bytes] | None = None
    while start < end:
        window = body[start : _window_end(body, start, end)]
        if template is None or not window.startswith(template[0]):
            template = _template(window, reader)
            templates += 1
            if template is None or templates * _FEWEST > events + 2 * _FEWEST:
                return False
        stretch, count = _following(window, *template)
        if not _has_clean_texts(stretch, count, *template):
            return False
        if len(stretch) < len(window):
            template = None
        start += len(stretch)
        events += count
    return True


def _window_end(body: bytes, start: int, end: int) -> int:
    """Return the end of an event some way on, or of the next one where that is longer than a window."""
    last = body.rfind(_BLANK, start, min(start + _WINDOW, end))
    return (body.find(_BLANK, start) if last < 0 else last) + len(_BLANK)


def _template(window: bytes, reader: Reader) -> tuple[bytes, bytes] | None:
    """Return what stands around the text of a window's first event; None where it is not proven to be its text.

    Proven means: with another text in that place, the dialect reads that other text, and nothing else.
    """
    event = window[: window.find(_BLANK) + len(_BLANK)]
    span = reader.text_span(event)
    if span is None or not event.startswith(_DATA) or event.count(b"\n") != len(_BLANK):
        return None
    prefix, suffix = event[: span[0]], event[span[1] :]
    probe = prefix + _PROBE.encode() + suffix
    try:
        read = reader.read_events([probe[len(_DATA) : -len(_BLANK)]])
    except DialectError:
        return None
    return (prefix, suffix) if list(read) == [_PROBE] else None


def _following(window: bytes, prefix: bytes, suffix: bytes) -> tuple[bytes, int]:
    """Return the events at the beginning of a window that follow a template, and how many they are.

    Line ends are their only control characters, at the end of each; where there are others, the number is 0.
    """
    count = window.count(suffix + prefix) + 1
    if _control_characters(window) == len(_BLANK) * count and window.endswith(suffix):
        return window, count
    count = stop = 0
    while window.startswith(prefix, stop):
        end = window.find(_BLANK, stop) + len(_BLANK)
        if not window.endswith(suffix, stop + len(prefix), end):
            break
        stop, count = end, count + 1
    stretch = window[:stop]
    return stretch, count if _control_characters(stretch) == len(_BLANK) * count else 0


def _has_clean_texts(stretch: bytes, count: int, prefix: bytes, suffix: bytes) -> bool:
    """Tell whether the texts of events without control characters are contents of JSON strings."""
    if not count or b"\\" in prefix or b"\\" in suffix:
        return False
    quotes = count * (prefix.count(b'"') + suffix.count(b'"'))
    at = stretch.find(b"\\") + 1
    while at:
        if stretch[at] == _QUOTE:
            if stretch.startswith(suffix, at):  # the escape takes the quote that ends its text
                return False
            quotes += 1
        if stretch[at] not in _SHORT_ESCAPES and _NUMBERED.match(stretch, at) is None:
            return False
        at = stretch.find(b"\\", at + 1) + 1
    return _quotes(stretch) == quotes and _is_utf8(stretch)


def _control_characters(data: bytes) -> int:
    import numpy as np  # half the start-up of a command that needs no proof

    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) < _FIRST_TEXT))


def _quotes(data: bytes) -> int:
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == _QUOTE))


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True

"""Proof, without parsing each event, that a stretch of a stream holds nothing but tokens.

An engine writes the same bytes around the text of each token: id, time, model, index. So an event is a template, a
prefix and a suffix, with text between them. Where one event is known to be a token's, every other event with the same
template is one as well, provided that its text is a well-formed JSON string. One ``bytes.replace`` takes all templates
out of a stretch, and one look at what is left proves all texts. This costs about a tenth of parsing.

Templates change now and then, where a server writes the time of each event. What does not follow a template, or changes
it too often, is not proven and has to be parsed.
"""

import re
from collections.abc import Sequence
from typing import Protocol

_BLANK = b"\n\n"
_DATA = b"data:"

_WINDOW = 16_384
"""Bytes looked at together: some 75 events of the usual size."""

_FEWEST = 8
"""Events that a template has to cover on average; below, parsing is cheaper than the proof."""

_MARK = b"\0"
"""Stands for a template that was taken out. No JSON text holds it, and a window that does is not proven."""

_TEXTS = re.compile(rb'(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})|\x00)*+')
"""Contents of JSON strings with marks between them; halves of surrogate pairs are left to the parser. Possessive
(``++``): a failed match is not tried again in other ways, which would take exponential time."""

_PROBE = "probe"


class Reader(Protocol):
    """What a proof needs to know of a dialect."""

    def read_events(self, events: Sequence[bytes]) -> Sequence[object]:
        """Read events; one that is a piece of text and nothing else may be given as that text."""

    def text_span(self, event: bytes) -> tuple[int, int] | None:
        """Return where the text of a token's event seems to lie; None where there is no one place."""


def count_tokens(body: bytes, start: int, end: int, reader: Reader) -> int | None:
    """Count the events with text in ``body[start:end]``, which begins and ends with an event.

    Returns None unless every event there is proven to be a piece of text (or an empty text) and nothing else.
    """
    tokens = events = templates = 0
    while start < end:
        template = _template(body, start, end, reader)
        templates += 1
        if template is None or templates * _FEWEST > events + 2 * _FEWEST:
            return None
        length, texts = _covered(body[start : _window_end(body, start, end)], *template)
        text = b"" if texts is None else texts
        if texts is None or not _TEXTS.fullmatch(text) or not _is_utf8(text):
            return None
        start += length
        events += (covered := text.count(_MARK) + 1)
        tokens += covered - _empty_texts(text)
    return tokens


def _window_end(body: bytes, start: int, end: int) -> int:
    """Return the end of an event some way on, or of the next one where that is longer than a window."""
    last = body.rfind(_BLANK, start, min(start + _WINDOW, end))
    return (body.find(_BLANK, start) if last < 0 else last) + len(_BLANK)


def _template(body: bytes, start: int, end: int, reader: Reader) -> tuple[bytes, bytes] | None:
    """Return what stands around the text of the event at ``start``; None where it is not proven to be its text.

    Proven means: with another text in that place, the dialect reads that other text, and nothing else.
    """
    stop = body.find(_BLANK, start, end)
    event = body[start : stop + len(_BLANK)]
    span = reader.text_span(event)
    if span is None or not event.startswith(_DATA) or event.count(b"\n") != len(_BLANK):
        return None
    prefix, suffix = event[: span[0]], event[span[1] :]
    probe = prefix + _PROBE.encode() + suffix
    if list(reader.read_events([probe[len(_DATA) : -len(_BLANK)]])) != [_PROBE]:
        return None
    return prefix, suffix


def _covered(window: bytes, prefix: bytes, suffix: bytes) -> tuple[int, bytes | None]:
    """Return how many bytes of a window follow a template from its beginning on, and the texts there, marked off."""
    if _MARK in window:
        return 0, None
    between = suffix + prefix
    collapsed = window.replace(between, _MARK)
    # A suffix ends in a blank line, which no text holds: the first one left over ends the last event of the template.
    stop = collapsed.find(suffix, len(prefix))
    texts = collapsed[len(prefix) : stop]
    length = stop + len(suffix) + texts.count(_MARK) * (len(between) - len(_MARK))
    return length, texts


def _empty_texts(texts: bytes) -> int:
    """Return how many of the texts between marks are empty; nearly always none is."""
    if texts and not texts.startswith(_MARK) and not texts.endswith(_MARK) and 2 * _MARK not in texts:
        return 0
    return texts.split(_MARK).count(b"")


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True

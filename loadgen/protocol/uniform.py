"""Proof, without parsing each event, that a stretch of a stream holds nothing but tokens.

An engine writes the same bytes around the text of each token: id, time, model, index. So an event is a template, a
prefix and a suffix, with text between them. Where one event is known to be a token's, every other event with the same
template is one as well, provided that its text is the content of a JSON string. To prove that, what seem to be the
texts are cut out, and the template put around them again: where this gives the bytes of the stream, only the texts are
left to be looked at, and they are few bytes.

So how the stream is split need not be trusted. Most engines send each event as a separate chunk, and those chunks
have been split already.

Templates change now and then, where a server writes the time of each event. What does not follow a template, or changes
it too often, is not proven and has to be parsed.
"""

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import islice, takewhile
from operator import itemgetter
from typing import Protocol

import msgspec

from loadgen.protocol.api import ApiError

_BLANK = b"\n\n"
_DATA = b"data:"

_WINDOW = 256
"""Events looked at together."""

_WINDOW_BYTES = 65_536
"""Bytes split together."""

_FEWEST = 8
"""Events that a template has to cover on average; below, parsing is cheaper than the proof."""

_STRING = msgspec.json.Decoder(str)
_DELETE = b"\x7f"
"""Put between texts: it may stand in a JSON string, but in no escape and in no character of several bytes. A text that
has one itself does not give the same bytes again."""

_PROBE = "probe"


class Reader(Protocol):
    """What a proof needs to know of an API."""

    def read_events(self, events: Sequence[bytes]) -> Sequence[object]:
        """Read events; one that is a piece of text and nothing else may be given as that text."""

    def text_span(self, event: bytes) -> tuple[int, int] | None:
        """Return where the text of a token's event seems to lie; None if it lies in no single place."""


def holds_tokens_only(body: bytes, start: int, end: int, pieces: Sequence[bytes], reader: Reader) -> bool:
    """Tell whether every event in ``body[start:end]`` is proven to be a piece of text, or an empty text.

    The bytes have to begin and end with an event. ``pieces`` may be these events already, or at first.
    """
    stop = _proven_until(body, start, end, pieces, reader)
    return stop == end or _proven_until(body, stop, end, _split(body, stop, end), reader) == end


def _split(body: bytes, start: int, end: int) -> Iterator[bytes]:
    """Split a part of a body into events, which are taken to be one line each, and an empty one."""
    while start < end:
        last = body.rfind(_BLANK, start, min(start + _WINDOW_BYTES, end))
        stop = (body.find(_BLANK, start) if last < 0 else last) + len(_BLANK)
        for line in BytesIO(body[start:stop]).readlines()[::2]:  # cheaper than to split at empty lines
            yield line + b"\n"
        start = stop


def _proven_until(body: bytes, start: int, end: int, events: Iterable[bytes], reader: Reader) -> int:
    """Return up to where ``body[start:end]`` is proven to be these events, and each of them a token's."""
    proven = templates = 0
    template: tuple[bytes, bytes] | None = None
    left = iter(events)
    while window := list(islice(left, _WINDOW)):
        while window:
            if template is None or not window[0].startswith(template[0]):
                template = _template(window[0], reader)
                templates += 1
                if template is None or templates * _FEWEST > proven + 2 * _FEWEST:
                    return start
            alike, stop = window, _end_of(window, body, start, end, *template)
            if stop == start:
                alike = _following(window, *template)
                stop = _end_of(alike, body, start, end, *template)
                if stop == start:
                    return start
            if len(alike) < len(window):
                template = None
            start = stop
            proven += len(alike)
            window = window[len(alike) :]
    return start


def _template(event: bytes, reader: Reader) -> tuple[bytes, bytes] | None:
    """Return what stands around the text of an event; None where it is not proven to be its text.

    Proven means: with another text in that place, the API reads that other text, and nothing else.
    """
    if not event.startswith(_DATA) or not event.endswith(_BLANK) or event.count(b"\n") != len(_BLANK):
        return None
    span = reader.text_span(event)
    if span is None:
        return None
    prefix, suffix = event[: span[0]], event[span[1] :]
    if b"\\" in prefix or b"\\" in suffix:  # an escape could reach into the text, or out of it
        return None
    probe = prefix + _PROBE.encode() + suffix
    try:
        read = reader.read_events([probe[len(_DATA) : -len(_BLANK)]])
    except ApiError:
        return None
    return (prefix, suffix) if list(read) == [_PROBE] else None


def _following(window: Sequence[bytes], prefix: bytes, suffix: bytes) -> list[bytes]:
    """Return the events at the beginning of a window that follow a template."""
    return list(takewhile(lambda event: event.startswith(prefix) and event.endswith(suffix), window))


def _end_of(events: Sequence[bytes], body: bytes, start: int, end: int, prefix: bytes, suffix: bytes) -> int:
    """Return where events end that follow a template; ``start`` where they are not proven to be there, and tokens."""
    place = slice(len(prefix), -len(suffix))
    texts = _DELETE.join(map(itemgetter(place), events))
    filled = prefix + texts.replace(_DELETE, suffix + prefix) + suffix
    is_proven = events and body.startswith(filled, start, end) and _is_text(texts)
    return start + len(filled) if is_proven else start


def _is_text(data: bytes) -> bool:
    """Tell whether bytes are the content of a JSON string."""
    try:
        _STRING.decode(b'"%b"' % data)
    except (msgspec.DecodeError, ValueError):
        return False
    return True

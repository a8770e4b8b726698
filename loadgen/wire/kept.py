"""What is kept of a server's own words: one line, without secrets, and short.

A server may send back what it was sent: a key in an error message, in a header, as base64. So each text is redacted
whole before it is cut, and it is cut before it is kept.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

LONGEST_KEPT = 2_048
"""Bytes, in UTF-8, of a text that is kept."""

LONGEST_ERROR = 500
"""Characters of an error that a record keeps: it is read by people, in tables."""

REDACTED = "[key]"
_CUT = " ..."

_PIECE = 8
"""Characters of a key that are enough to be taken out, where a server repeats only a part of it."""

_GRAM = 4
_STRIDE = _PIECE - _GRAM + 1
"""So many places apart, a text is looked at for a gram of a piece: of the grams that every piece has, at as many places
next to each other, one is at such a place."""

_LOOKED_AT = 16_384
"""Characters of a text that are redacted before it is cut: far more than are kept, so that none of a key is left at the
cut."""

_HTML = re.compile(rb"\s*+(?:<!doctype html|<html|<head|<body)", re.IGNORECASE)
_TITLE = re.compile(rb"<title[^>]{0,200}>([^<]{0,500})", re.IGNORECASE)
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that no text holds; tabs, line ends and escape sequences are left out."""


def redacted(text: str, secrets: Sequence[str]) -> str:
    """Take secrets out of a text, and all pieces of them of eight characters or more; in base64, hex and URLs as well.

    Returns at most the first 16 Ki characters.
    """
    text = text[:_LOOKED_AT]
    for secret in secrets:
        text = _without(text, secret)
    return text


def _without(text: str, secret: str) -> str:
    if len(secret) < _PIECE:
        return text.replace(secret, REDACTED)
    pieces, grams = _pieces(secret)
    if grams.isdisjoint([text[at : at + _GRAM] for at in range(0, len(text), _STRIDE)]):
        return text
    out: list[str] = []
    start = at = 0
    while at + _PIECE <= len(text):
        if text[at : at + _PIECE] not in pieces:
            at += 1
            continue
        end = at + 1
        while text[end : end + _PIECE] in pieces:
            end += 1
        out += [text[start:at], REDACTED]
        start = at = end + _PIECE - 1
    return "".join([*out, text[start:]])


def redacted_bytes(data: bytes, secrets: Sequence[str]) -> bytes:
    """Take secrets and their base64, hex and URL forms out of a body, whatever its length."""
    for secret in secrets:
        for form in _forms(secret):
            data = data.replace(form.encode(), REDACTED.encode())
    return data


def kept(text: str | None, secrets: Sequence[str], longest: int = LONGEST_KEPT) -> str | None:
    """Return a text as it may be kept: without secrets, and then cut; None of None."""
    if text is None:
        return None
    whole = redacted(text, secrets)
    short = whole[:longest].encode(errors="replace")[: LONGEST_KEPT - len(_CUT)].decode(errors="ignore")
    return short if len(short) == len(whole) and len(text) <= _LOOKED_AT else short + _CUT


def described(body: bytes, content_type: str) -> str:
    """Say in one line what a body is that is none of the expected: a page's title, the text, or type and length."""
    kind = content_type.partition(";")[0].strip() or "no content type"
    text = body[:_LOOKED_AT].strip()
    if not text:
        return "an empty body"
    if "html" in kind or _HTML.match(text):
        title = _TITLE.search(text)
        named = " ".join(title.group(1).decode(errors="replace").split()) if title else ""
        return f"an HTML page{f' titled {named!r}' if named else ''} ({kind})"
    if _BINARY.search(text):
        return f"{len(body):,} bytes that are not text ({kind})"
    return " ".join(text.decode(errors="replace").split())


@lru_cache(maxsize=32)
def _forms(secret: str) -> tuple[str, ...]:
    """Return how a secret may be written: as it is, in base64 at each of three offsets, in hex, and as in a URL."""
    if len(secret) < _PIECE:  # what stands for it would be found everywhere
        return (secret,)
    data = secret.encode()
    forms = [secret, data.hex(), data.hex().upper(), quote(secret, safe="")]
    for offset in range(3):
        encoded = b64encode(bytes(offset) + data).decode().rstrip("=")
        # Its first and its last characters also hold bits of what stands around it.
        inner = encoded[(0, 2, 3)[offset] : len(encoded) - (1 if (offset + len(data)) % 3 else 0)]
        forms += [inner, inner.replace("+", "-").replace("/", "_")]
    return tuple(dict.fromkeys(form for form in forms if form))


@lru_cache(maxsize=32)
def _pieces(secret: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return all pieces of what a secret may be written as, and all grams of those."""
    pieces = frozenset(form[at : at + _PIECE] for form in _forms(secret) for at in range(len(form) - _PIECE + 1))
    return pieces, frozenset(piece[at : at + _GRAM] for piece in pieces for at in range(_STRIDE))

"""Text of others, as it is shown.

Servers, engines, workers and files name themselves as they like: with control characters that a terminal obeys, with a
line feed that starts a line of its own in a log, with marks that turn the direction of what follows. Records keep such
text as it came. Whoever shows it escapes it: on a terminal, in a log, in a report, on a page.
"""

from typing import Any


def escaped(text: str) -> str:
    r"""Return a text on one line, with every character that does not print as its Python escape: ``\n``, ``\x1b``.

    Those are the characters that ``repr`` escapes: control and format characters (directions, zero width), line and
    paragraph separators, spaces other than the plain one, unpaired surrogates, and what is not assigned. A backslash
    stays as it is, so that escaping twice changes nothing; there is no way back.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escaped_lines(text: str) -> str:
    """Return a text with its line feeds and tabs, and each line escaped: the end of a log, a note of several lines."""
    return "\n".join(escaped(line.expandtabs()) for line in text.split("\n"))


def escaped_all(value: Any) -> Any:  # noqa: ANN401 whatever JSON can hold
    """Return a value of JSON with every text in it escaped; keys are ours and stay."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {key: escaped_all(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [escaped_all(item) for item in value]
    return value


def middle_cut(text: str, most: int) -> str:
    """Return a text of at most that many characters: of a longer one its beginning and its end."""
    if len(text) <= most:
        return text
    kept = most - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 user``, ``2,000 users``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(share: float, digits: int = 0) -> str:
    """Return a share in percent: ``5 %``."""
    return f"{100 * share:.{digits}f} %"

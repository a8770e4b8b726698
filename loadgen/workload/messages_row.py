"""Rows of a data set that are bodies of chat completions, as in OpenAI's fine-tuning files."""

import json
from typing import Any

from loadgen.request import Message

_LIMITS = ("max_tokens", "max_completion_tokens")
"""Names of the limit of an answer's length."""
_MESSAGE = ("role", "content")
_LARGEST = 1e6
"""No temperature reaches it; larger integers have no float."""


def prompt_messages(value: object, where: str) -> tuple[Message, ...]:
    """Return the messages without trailing assistant messages, which are the training target in fine-tuning files.

    Raises ValueError, whose text begins with ``where``, for what is not a list of messages with text.
    """
    if not isinstance(value, list):
        raise ValueError(f'{where}: "messages" must be a list.')  # noqa: TRY004 contents of a file
    messages = [_message(one, where) for one in value]
    while messages and messages[-1].role == "assistant":
        messages.pop()
    if not any(message.content.strip() for message in messages):
        raise ValueError(f'{where}: "messages" has no user message with text.')
    return tuple(messages)


def prompt_fields(given: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the other fields of a row, the limit of the answer's length as ``max_tokens``.

    Raises ValueError, whose text begins with ``where``, for an invalid limit, temperature or stop, and for a value that
    is not JSON, such as NaN, or cannot be encoded as UTF-8.
    """
    try:
        json.dumps(given, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise ValueError(f"{where}: {', '.join(given)} cannot be sent ({error}).") from None
    limits = [given[name] for name in _LIMITS if given.get(name) is not None]
    fields = {name: value for name, value in given.items() if name not in _LIMITS}
    if limits:
        if not isinstance(limits[0], int) or isinstance(limits[0], bool) or limits[0] < 1:
            raise ValueError(f"{where}: max_tokens must be a whole number of at least 1, got {limits[0]!r}.")
        fields["max_tokens"] = limits[0]
    if fields.get("temperature") is not None and not _is_temperature(fields["temperature"]):
        raise ValueError(f"{where}: temperature must be a number of at least 0, got {fields['temperature']!r}.")
    stop = fields.get("stop")
    if stop is not None and not (isinstance(stop, str) or _are_texts(stop)):
        raise ValueError(f"{where}: stop must be a text or a list of texts, got {stop!r}.")
    return fields


def check_encodable(text: str, where: str) -> None:
    """Raise ValueError, whose text begins with ``where``, for a text that cannot be sent."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where}: unpaired surrogate; it cannot be encoded as UTF-8.") from None


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise ValueError(f'{where}: a message needs "role" and "content".')  # noqa: TRY004 contents of a file
    if more := [name for name in value if name not in _MESSAGE]:
        raise ValueError(f"{where}: {', '.join(map(str, more))} of a message is not supported; role and content are.")
    role, content = value.get("role"), value.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(f'{where}: "role" and "content" of a message must be strings; parts are not supported.')  # noqa: TRY004
    check_encodable(role + content, where)
    return Message(role, content)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_temperature(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST

"""How servers report an error in JSON, in the body of a failed request or in the middle of an answer."""

from typing import Any

import msgspec

from loadgen.protocol.api import ApiError, decode_json


class ErrorFields(msgspec.Struct, gc=False):
    """The fields in which servers report an error: each server fills some of them."""

    error: Any = None
    error_code: Any = None
    error_msg: Any = None
    object: Any = None
    message: Any = None
    text: Any = None
    detail: Any = None


_ERROR = msgspec.json.Decoder(ErrorFields)


def error_message(body: bytes) -> str | None:
    """Return the server's own message from the body of a failed request; None where it has none of the known shapes."""
    try:
        fields = decode_json(_ERROR, body, "an error")
    except ApiError:
        return None
    return error_in(fields, is_answer=False) or (text_of(fields.message) if fields.message else None)


def error_in(fields: ErrorFields, *, is_answer: bool) -> str | None:
    """Return the error that some JSON reports, None if it reports none.

    ``is_answer``: it has content as well, so that a field ``detail`` is part of that.
    """
    if fields.error:
        return text_of(fields.error)
    if fields.object == "error" or fields.error_code:
        said = fields.message or fields.error_msg or fields.text
        return text_of(said) if said else "error without a message"
    if fields.detail and not is_answer:
        return text_of(fields.detail)
    return None


def text_of(value: object) -> str:
    """Return the message of an error: a text, an object with one, or whatever else it is, as JSON."""
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (RecursionError, ValueError):  # nested too deep, or with numbers that are too long
        return "an error that cannot be shown"

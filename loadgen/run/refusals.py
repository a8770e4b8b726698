"""What a server refuses of a request, found out with the first one, and what is done about it.

Models differ in the fields that they know. A field that has another name is given it; one without which nothing is lost
is left out. What else is refused is the user's to decide.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from loadgen.errors import EndpointError
from loadgen.protocol.chat import ChatApi
from loadgen.protocol.client import Settings
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.request import Request

_REFUSALS = {400, 422}
_LIMIT_FIELDS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""By one name of the limit: its other."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first request: its record, and the settings by which it was sent in the end."""

    record: RequestRecord
    settings: Settings
    notes: tuple[str, ...] = ()
    """What was changed, in sentences."""


def accepted_body(
    settings: Settings, request: Request, send: Callable[[Settings], RequestRecord], *, may_rename_limit: bool
) -> Accepted:
    """Send a request, and again without what the server names as refused, where that can be left out.

    Raises EndpointError, which names the option, where the server refuses a field that only the user can give up.
    """
    accepted = Accepted(send(settings), settings)
    if may_rename_limit and _refused_field(accepted, request) in _LIMIT_FIELDS:
        accepted = _with_other_limit(accepted, send)
    if _refused_field(accepted, request) == "stream_options":
        accepted = _without_stream_options(accepted, send)
    refused = _refused_field(accepted, request)
    if refused is not None:
        raise EndpointError(
            f"--host {settings.target.url}, model {request.model!r}: the server refuses the field {refused}. It said: "
            f"{accepted.record.error}. Leave it out with --extra-body '{{\"{refused}\": null}}', or set it there."
        )
    return accepted


def _refused_field(accepted: Accepted, request: Request) -> str | None:
    """Return the field of the body that a refusal names first; None where it names none."""
    error = accepted.record.error
    if accepted.record.http_status not in _REFUSALS or error is None:
        return None
    positions = {
        match.start(): name
        for name in accepted.settings.body(request)
        if name not in _REQUIRED and (match := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", error))
    }
    return positions[min(positions)] if positions else None


_REQUIRED = {"model", "messages", "stream", "inputs", "parameters", "prompt"}
"""Fields without which there is no request."""


def _with_other_limit(before: Accepted, send: Callable[[Settings], RequestRecord]) -> Accepted:
    """Call the limit by its other name; unchanged where the server refuses that, too."""
    settings = before.settings
    api = settings.api
    if not isinstance(api, ChatApi):
        return before
    other = _LIMIT_FIELDS[api.limit_field]
    changed = replace(settings, api=replace(api, limit_field=other))
    record = send(changed)
    if record.http_status in _REFUSALS and re.search(rf"\b{other}\b", record.error or ""):
        return before
    note = f"The server refuses {api.limit_field}: answers are limited by {other}."
    return Accepted(record, changed, (*before.notes, note))


def _without_stream_options(before: Accepted, send: Callable[[Settings], RequestRecord]) -> Accepted:
    """Do not ask for usage, where it comes all the same, or a tokenizer counts."""
    settings = before.settings
    removal = {"stream_options": None}
    changed = replace(settings, extra_body={**settings.extra_body, **removal})
    record = send(changed)
    if record.http_status in _REFUSALS:
        return before
    counted = record.counted_by in {CountedBy.USAGE, CountedBy.USAGE_CORRECTED, CountedBy.TOKENIZER}
    if record.outcome is Outcome.OK and not counted:
        raise EndpointError(
            f"--host {settings.target.url}: the server refuses stream_options, and without it reports no token counts. "
            "Name the model's --tokenizer and leave the field out with "
            f"--extra-body '{msgspec.json.encode(removal).decode()}'. It said: {before.record.error}"
        )
    note = "The server refuses stream_options: it is left out, as usage comes without it."
    return Accepted(record, changed, (*before.notes, note))

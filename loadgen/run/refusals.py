"""What a server refuses of a request, found out with the first one, and what is done about it.

Models differ in the fields that they know. A field that has another name is given it; one without which nothing is lost
is left out. What else is refused is the user's to decide.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from loadgen.errors import EndpointError
from loadgen.merge_patch import merged
from loadgen.protocol.chat import ChatApi
from loadgen.protocol.client import Settings
from loadgen.record import CountedBy, Outcome, RequestRecord
from loadgen.request import Request

_REFUSALS = {400, 422}
_LIMIT_FIELDS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""By one name of the limit: its other."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first request as it was accepted, or refused for good."""

    record: RequestRecord
    limit_field: str | None = None
    """Name of the limit that the server takes in place of ours."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """To be merged into each body beside what the user gives."""
    notes: tuple[str, ...] = ()
    """What was changed, in sentences."""


def accepted_body(settings: Settings, request: Request, send: Callable[[Settings], RequestRecord]) -> Accepted:
    """Send a request, and again without what the server names as refused, where that can be left out.

    Raises EndpointError, which names the option, where the server refuses a field that only the user can give up.
    """
    accepted = Accepted(send(settings))
    if (refused := _refused_field(settings, request, accepted.record)) in _LIMIT_FIELDS:
        settings, accepted = _with_other_limit(settings, accepted, send)
        refused = _refused_field(settings, request, accepted.record)
    if refused == "stream_options":
        accepted = _without_stream_options(settings, accepted, send)
        refused = _refused_field(settings, request, accepted.record)
    if refused is not None:
        raise EndpointError(
            f"--host {settings.target.url}, model {request.model!r}: the server refuses the field {refused}. It said: "
            f"{accepted.record.error}. Leave it out with --extra-body '{{\"{refused}\": null}}', or set it there."
        )
    return accepted


def _refused_field(settings: Settings, request: Request, record: RequestRecord) -> str | None:
    """Return the field of the body that a refusal names first; None where it names none."""
    if record.http_status not in _REFUSALS or record.error is None:
        return None
    named = {
        found.start(): name
        for name in settings.body(request)
        if name not in _ALWAYS and (found := re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", record.error))
    }
    return named[min(named)] if named else None


_ALWAYS = {"model", "messages", "stream", "inputs", "parameters", "prompt"}
"""Fields without which there is no request."""


def _with_other_limit(
    settings: Settings, before: Accepted, send: Callable[[Settings], RequestRecord]
) -> tuple[Settings, Accepted]:
    """Call the limit by its other name, unless the user has chosen one; as before where that is refused, too."""
    api = settings.api
    if not isinstance(api, ChatApi) or settings.keeps_limit_field:
        return settings, before
    other = _LIMIT_FIELDS[api.limit_field]
    changed = replace(settings, api=replace(api, limit_field=other))
    record = send(changed)
    if record.http_status in _REFUSALS and re.search(rf"\b{other}\b", record.error or ""):
        return settings, before
    note = f"The server refuses {api.limit_field}: answers are limited by {other}."
    return changed, replace(before, record=record, limit_field=other, notes=(*before.notes, note))


def _without_stream_options(
    settings: Settings, before: Accepted, send: Callable[[Settings], RequestRecord]
) -> Accepted:
    """Do not ask for usage, where it comes all the same, or a tokenizer counts."""
    removal = {"stream_options": None}
    record = send(replace(settings, extra_body=merged(settings.extra_body, {}) | removal))
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
    return replace(before, record=record, extra_body=removal, notes=(*before.notes, note))

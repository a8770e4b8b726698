"""What requests have in common: all of a run, and all of a user class."""

from collections.abc import Mapping
from typing import Any, Self

import msgspec

from loadgen.request import Input, Place, Request
from loadgen.scenario import Scenario


class RequestDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """Fields that all requests of a run share."""

    model: str
    max_tokens: int
    temperature: float
    stream: bool
    stop: tuple[str, ...] = ()
    body: Mapping[str, Any] = {}
    """Further fields of the body."""

    @classmethod
    def of_run(cls, scenario: Scenario, model: str, stop: tuple[str, ...]) -> Self:
        """Return the defaults of a run: its options, the model that was found, and the texts that end an answer."""
        return cls(
            model=model,
            max_tokens=scenario.max_tokens,
            temperature=scenario.temperature,
            stream=scenario.stream,
            stop=stop,
            body={} if scenario.top_p is None else {"top_p": scenario.top_p},
        )

    def request(self, content: Input, place: Place, row_fields: Mapping[str, Any] = {}) -> Request:
        """Return a request; ``row_fields`` are those of a row of the data set, and override these."""
        request = Request(
            input=content,
            model=self.model,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            stream=self.stream,
            stop=self.stop,
            body=self.body,
            row_fields=row_fields,
            place=place,
        )
        return _with_row_fields(request) if row_fields else request


def _with_row_fields(request: Request) -> Request:
    """Return a request with the fields of its row of the data set over its own."""
    fields = dict(request.row_fields)
    stop = fields.pop("stop", None)
    return msgspec.structs.replace(
        request,
        max_tokens=fields.pop("max_tokens", None) or request.max_tokens,
        temperature=request.temperature if (given := fields.pop("temperature", None)) is None else given,
        stop=request.stop if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        body={**request.body, **fields},
    )


class UserClass(msgspec.Struct, frozen=True, kw_only=True):
    """What a user class of a locustfile asks for in all its requests; None: as the run does."""

    max_tokens: int | None = None
    temperature: float | None = None
    extra_body: dict[str, Any] = {}
    """Further fields of the body."""

    def applied_to(self, defaults: RequestDefaults) -> RequestDefaults:
        """Return the run's defaults with this class's values; body fields set by an option override the class."""
        given = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        changed = {name: value for name, value in given.items() if value is not None}
        return msgspec.structs.replace(defaults, body={**self.extra_body, **defaults.body}, **changed)

"""Sends requests one at a time; returns the record and the answer of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from loadgen.clock import now
from loadgen.merge_patch import merged
from loadgen.protocol.api import Api
from loadgen.protocol.completion import Exchange
from loadgen.protocol.decode import decode, shows_token
from loadgen.protocol.outcome import decide
from loadgen.protocol.records import TokenCounter, record_of
from loadgen.record import Outcome, RequestRecord
from loadgen.request import Message, Request
from loadgen.wire.connection import EARLY, Connection
from loadgen.wire.fault import Fault, WireError
from loadgen.wire.head import request_head
from loadgen.wire.http1 import with_body
from loadgen.wire.response_reader import Timeouts, deadline
from loadgen.wire.target import Target
from loadgen.wire.trace import trace_headers
from loadgen.wire.transcript import Arrivals, Transcript
from loadgen.wire.waiting import Waiter

Template = Callable[[Sequence[Message]], str]
"""Makes the text of a prompt from the messages of a chat."""


_SYSTEM_ROLES = {"system", "developer"}
"""OpenAI calls it by the latter name for its newer models."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the requests of a run are sent: target, API, time-outs, key, template."""

    target: Target
    api: Api
    timeouts: Timeouts
    keep_alive: bool = False
    drains_lazily: bool = True
    """Whether streams may be drained in large reads: the system has to hold back reads for that."""
    has_key: bool = False
    """Whether the API key is among the headers."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of each request in addition to the client's, including the API key's."""
    secrets: tuple[str, ...] = ()
    """Secrets in those headers, without prefixes; they are removed from every text of a server that is kept."""
    route: str | None = None
    """Route below the base URL, with its query, that replaces the API's own."""
    system_prompt: str | None = None
    """Prepended as a system message to each chat without one."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Merged over each body: the last word."""
    count_tokens: TokenCounter | None = None
    """Counts the tokens of an answer's text where the server reports none."""
    template: Template | None = None
    """Applied here, where the engine does not apply the model's chat template itself."""
    length_fields: Callable[[int], Mapping[str, Any]] | None = None
    """Returns the fields that make an answer exactly that many tokens long, where answers must not end earlier."""
    limit_options: Mapping[Outcome, str] = field(default_factory=dict)
    """By outcome: the option that sets its limit, appended to the error."""

    def body(self, request: Request) -> Mapping[str, Any]:
        """Return the JSON body of a request."""
        request = self._with_system_prompt(request)
        if self.template is not None and not isinstance(request.input, str):
            request = replace(request, input=self.template(request.input))
        if self.length_fields is not None:
            request = replace(request, body={**self.length_fields(request.max_tokens), **request.body})
        body = self.api.body(request)
        return merged(body, self.extra_body) if self.extra_body else body

    def path(self, *, stream: bool) -> str:
        """Return path and query of a request."""
        return self.target.path_of(self.shown_route(stream=stream))

    def shown_route(self, *, stream: bool) -> str:
        """Return the route below the base URL, as tables name it."""
        return self.route or self.api.path(stream=stream)

    def _with_system_prompt(self, request: Request) -> Request:
        if self.system_prompt is None:
            return request
        messages = request.messages
        if any(message.role in _SYSTEM_ROLES for message in messages):
            return request
        return replace(request, input=(Message("system", self.system_prompt), *messages))


class Client:
    """Sends one request at a time over its own socket; one client per user."""

    def __init__(
        self, settings: Settings, waiter: Waiter, keep: Callable[[RequestRecord], None] = lambda _record: None
    ) -> None:
        """Send by these settings. ``keep`` is handed each record, also if the request is interrupted from outside."""
        self._settings = settings
        self._waiter = waiter
        self._keep = keep
        self._kept: Connection | None = None
        self._shows_token = partial(shows_token, settings.api)
        self._heads = {stream: _head(settings, stream=stream) for stream in (False, True)}

    def send(self, request: Request) -> Exchange:
        """Make a request; return its record and the answer. The server's faults are outcomes; none is raised."""
        transcript = Transcript(stream_end=self._settings.api.stream_end)
        try:
            self._exchange(request, transcript)
            transcript.fault = None
        except WireError as error:
            transcript.fault = error.fault
        finally:
            exchange = conclude(self._settings, request, transcript)
            self._keep(exchange.record)
        return exchange

    def close(self) -> None:
        """Close a kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _exchange(self, request: Request, transcript: Transcript) -> None:
        data = self._encoded(request)
        connection = self._kept
        self._kept = None
        if connection is not None and not connection.idle:
            connection.close()
            connection = None
            transcript.connection = "replaced"
        if connection is not None:
            transcript.connection = "reused"
            self._wait_for(request)
            try:
                self._converse(connection, data, transcript, request)
            except WireError as error:
                # A kept connection may have gone stale: it is replaced once, before any byte of an answer.
                if error.outcome is not Outcome.BROKEN_STREAM or transcript.data:
                    raise
                transcript.begin_again()
                transcript.connection = "replaced"
            else:
                return
        connection = Connection(self._settings.target, self._waiter)
        transcript.connection = transcript.connection or "new"
        transcript.connect = now()
        try:
            connection.open(deadline(transcript.connect, self._settings.timeouts.connect))
            transcript.connected = now()
            self._wait_for(request)
            self._converse(connection, data, transcript, request)
        except BaseException:
            connection.close()
            raise

    def _wait_for(self, request: Request) -> None:
        if request.not_before is not None:
            self._waiter.sleep_until(request.not_before)

    def _converse(self, connection: Connection, data: bytes, transcript: Transcript, request: Request) -> None:
        timeouts = self._settings.timeouts
        has_token = self._settings.api.has_token if request.stream else None
        try:
            transcript.silent = connection.check_silence()
            due = deadline(now(), min(timeouts.first_byte, timeouts.total))
            transcript.sent = connection.send(data, due)
            shows_token = self._shows_token if request.lazy and self._settings.drains_lazily else None
            connection.receive(transcript, timeouts, has_token, shows_token)
        except BaseException:
            connection.close()
            raise
        if self._settings.keep_alive and transcript.response.keep_alive:
            self._kept = connection
        else:
            connection.close()

    def _encoded(self, request: Request) -> bytes:
        body = msgspec.json.encode(self._settings.body(request))
        return with_body(self._heads[request.stream], trace_headers(request.id), body)


def conclude(settings: Settings, request: Request, transcript: Transcript) -> Exchange:
    """Return the record and the answer of a request whose response is over or given up; raises nothing."""
    given_up_at = now()
    if not transcript.too_long:
        transcript.response.flush(transcript.data)
    transcript.response.release()
    arrivals = _arrivals(transcript)
    transcript.settle_end(arrivals, given_up_at)
    in_full = settings.count_tokens is not None
    completion = decode(transcript, arrivals, settings.api, stream=request.stream, in_full=in_full)
    fault = None if transcript.fault is None else _with_option(transcript.fault, settings.limit_options)
    completion.outcome, completion.error = decide(fault, transcript.response.status, completion)
    if completion.outcome is Outcome.OK and fault is not None:
        transcript.end_with_last_byte(arrivals)  # the answer was complete, only its framing was not
    completion.redact(settings.secrets)
    return Exchange(record_of(request, transcript, arrivals, completion, settings.count_tokens), completion)


def _with_option(fault: Fault, options: Mapping[Outcome, str]) -> Fault:
    """Return a fault that names the option by which the user sets the limit that was exceeded."""
    option = options.get(fault.outcome)
    return fault if option is None else Fault(fault.outcome, f"{fault.message} ({option})")


def _arrivals(transcript: Transcript) -> Arrivals:
    """Return the times of the reads, none earlier than the request.

    A stamp between the check that the socket is silent and the send belongs to an answer that came too early. A stamp
    before that check is impossible: the clocks disagree, and the times of user space are used.
    """
    arrivals = transcript.arrivals()
    if not arrivals.begins_before(transcript.sent):
        return arrivals
    if arrivals.begins_before(transcript.silent):
        transcript.offset = None
    else:
        transcript.reject(EARLY)
    return transcript.arrivals()


def _head(settings: Settings, *, stream: bool) -> bytes:
    """Return what the heads of all requests have in common."""
    headers = {
        "Host": settings.target.authority,
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if stream else "application/json",
        "Accept-Encoding": "identity",
        "Connection": "keep-alive" if settings.keep_alive else "close",
        "User-Agent": "loadgen",
    }
    return request_head("POST", settings.target, settings.path(stream=stream), headers, settings.headers)

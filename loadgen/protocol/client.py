"""Sends requests, one after another, and makes a record of each."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from loadgen.clock import now
from loadgen.protocol.api import Api
from loadgen.protocol.decode import decode
from loadgen.protocol.job import Job
from loadgen.protocol.records import TokenCounter, record_of
from loadgen.record import Outcome, RequestRecord
from loadgen.wire.connection import EARLY, Connection, WireError
from loadgen.wire.http1 import head_bytes, with_body
from loadgen.wire.reception import Timeouts, deadline
from loadgen.wire.target import Target
from loadgen.wire.transcript import Arrivals, Transcript
from loadgen.wire.waiting import Waiter


@dataclass(frozen=True, slots=True)
class Settings:
    """What all requests of a run have in common."""

    target: Target
    api: Api
    timeouts: Timeouts
    keep_alive: bool = False
    api_key: str | None = None
    count_tokens: TokenCounter | None = None
    """Counts the tokens of an answer's text where the server reports none."""


class Client:
    """Sends one request at a time over a socket of our own; one client per user."""

    def __init__(self, settings: Settings, waiter: Waiter) -> None:
        self._settings = settings
        self._waiter = waiter
        self._kept: Connection | None = None
        self._heads = {stream: _head(settings, stream=stream) for stream in (False, True)}

    def send(self, job: Job, keep: Callable[[RequestRecord], None]) -> None:
        """Make the request and hand exactly one record to ``keep``, also if this is interrupted from outside."""
        transcript = Transcript()
        try:
            self._exchange(job, transcript)
            transcript.outcome, transcript.error = Outcome.OK, None
        except WireError as failure:
            transcript.outcome, transcript.error = failure.outcome, failure.message
        finally:
            keep(concluded(self._settings, job, transcript))

    def close(self) -> None:
        """Close a kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _exchange(self, job: Job, transcript: Transcript) -> None:
        request = self._request(job)
        connection = self._kept
        self._kept = None
        if connection is not None and not connection.idle:
            connection.close()
            connection = None
            transcript.connection = "replaced"
        if connection is not None:
            transcript.connection = "reused"
            self._wait_for(job)
            try:
                self._converse(connection, request, transcript, stream=job.ask.stream, lazy=job.lazy)
            except WireError as failure:
                # A kept connection may have gone stale: it is replaced once, before any byte of an answer.
                if failure.outcome is not Outcome.BROKEN_STREAM or transcript.data:
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
            self._wait_for(job)
            self._converse(connection, request, transcript, stream=job.ask.stream, lazy=job.lazy)
        except BaseException:
            connection.close()
            raise

    def _wait_for(self, job: Job) -> None:
        if job.not_before is not None:
            self._waiter.sleep_until(job.not_before)

    def _converse(
        self, connection: Connection, request: bytes, transcript: Transcript, *, stream: bool, lazy: bool
    ) -> None:
        timeouts = self._settings.timeouts
        try:
            transcript.silent = connection.check_silence()
            due = deadline(now(), min(timeouts.first_byte, timeouts.total))
            transcript.sent = connection.send(request, due)
            connection.receive(transcript, timeouts, self._settings.api.has_token if stream else None, lazy=lazy)
        except BaseException:
            connection.close()
            raise
        if self._settings.keep_alive and transcript.response.keep_alive:
            self._kept = connection
        else:
            connection.close()

    def _request(self, job: Job) -> bytes:
        body = msgspec.json.encode(self._settings.api.body(job.ask))
        return with_body(self._heads[job.ask.stream], job.headers, body)


def concluded(settings: Settings, job: Job, transcript: Transcript) -> RequestRecord:
    """Return the record of a request whose response is over or given up; raises nothing, whatever the server sent."""
    given_up_at = now()
    if not transcript.too_long:
        transcript.response.flush(transcript.data)
    transcript.response.release()
    arrivals = _arrivals(transcript)
    transcript.settle_end(arrivals, given_up_at)
    in_full = settings.count_tokens is not None
    answer = decode(transcript, arrivals, settings.api, stream=job.ask.stream, in_full=in_full)
    if answer.outcome is Outcome.OK and transcript.outcome is not Outcome.OK:
        transcript.end_with_last_byte(arrivals)  # the answer was complete, only its framing was not
    answer.redact(settings.api_key)
    return record_of(job, transcript, arrivals, answer, settings.count_tokens)


def _arrivals(transcript: Transcript) -> Arrivals:
    """Return the times of the reads, none of them before the question.

    A stamp between our look at a silent socket and the send is that of an answer that came too early. One before that
    look cannot be: then the clocks do not fit together, and the times are those of user space.
    """
    arrivals = transcript.arrivals()
    if not arrivals.begins_before(transcript.sent):
        return arrivals
    if arrivals.begins_before(transcript.silent):
        transcript.offset = None
    else:
        transcript.reject(Outcome.BAD_PROTOCOL, EARLY)
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
    if settings.api_key:
        headers["Authorization"] = f"Bearer {settings.api_key}"
    return head_bytes("POST", settings.target.base_path + settings.api.path(stream=stream), headers)

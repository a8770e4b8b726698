"""The same requests through the openai SDK, for those who want to know what that costs them.

Times are those at which the SDK hands a chunk to its caller, so they hold its parsing and its scheduling; the records
say ``client: openai`` and ``stamp: user``.
"""

import logging
import ssl
from collections.abc import Callable
from typing import Any

import openai

from loadgen.clock import Ns, now
from loadgen.protocol.api import ApiError
from loadgen.protocol.client import Settings
from loadgen.protocol.completion import Completion
from loadgen.protocol.job import Job
from loadgen.protocol.records import record_of
from loadgen.record import Outcome, RequestRecord
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import Waiter

_PARAMETERS = {"model", "messages", "max_tokens", "temperature", "stream", "stream_options"}
"""Fields of a body that the SDK takes by name; an engine's own go through ``extra_body``."""


class OpenAIClient:
    """One client of the SDK, shared by all users; without retries, which would hide failures."""

    def __init__(self, settings: Settings, waiter: Waiter) -> None:
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line a request otherwise
        self._settings = settings
        self._waiter = waiter
        timeouts = settings.timeouts
        limits = openai.Timeout(timeouts.total, connect=timeouts.connect, read=timeouts.idle)
        target = settings.target
        insecure = target.tls is not None and target.tls.verify_mode is ssl.CERT_NONE
        self._client = openai.OpenAI(
            base_url=target.url + "/v1",
            api_key=settings.api_key or "none",
            max_retries=0,
            timeout=limits,
            http_client=openai.DefaultHttpxClient(verify=False) if insecure else None,
        )

    def send(self, job: Job, keep: Callable[[RequestRecord], None]) -> None:
        """Make the request and hand exactly one record to ``keep``, also if this is interrupted from outside."""
        transcript = Transcript()
        answer = Completion(Outcome.ABORTED, transcript.error)
        try:
            self._ask(job, transcript, answer)
            answer.outcome, answer.error = Outcome.OK, None
        except openai.APIStatusError as error:
            answer.outcome = _status_outcome(error.status_code)
            answer.error = f"HTTP {error.status_code}: {error.message}"
            transcript.response.status = error.status_code
        except openai.APITimeoutError as error:
            answer.outcome = Outcome.IDLE_TIMEOUT if answer.chunk_times else Outcome.FIRST_BYTE_TIMEOUT
            answer.error = str(error)
        except openai.APIConnectionError as error:
            answer.outcome, answer.error = Outcome.REFUSED, f"{error} {error.__cause__ or ''}".strip()
        except openai.OpenAIError as error:
            answer.outcome, answer.error = Outcome.BROKEN_STREAM, str(error)
        except (ApiError, ValueError) as error:
            answer.outcome, answer.error = Outcome.BAD_PROTOCOL, str(error)
        except RecursionError:
            answer.outcome, answer.error = Outcome.BAD_PROTOCOL, "the answer's JSON is nested too deep"
        except _transport_errors() as error:
            answer.outcome, answer.error = Outcome.BROKEN_STREAM, f"{type(error).__name__}: {error}"
        finally:
            transcript.end = now()
            answer.judge(stream=job.ask.stream)
            answer.redact(self._settings.api_key)
            keep(
                record_of(job, transcript, transcript.arrivals(), answer, self._settings.count_tokens, client="openai")
            )

    def close(self) -> None:
        """Nothing to close: the SDK's client is shared."""

    def _ask(self, job: Job, transcript: Transcript, answer: Completion) -> None:
        body = dict(self._settings.api.body(job.ask))
        extra = {name: body.pop(name) for name in set(body) - _PARAMETERS}
        create: Any = self._client.chat.completions.create
        if job.not_before is not None:
            self._waiter.sleep_until(job.not_before)
        transcript.sent = now()
        got = create(**body, extra_body=extra, extra_headers=job.headers)
        transcript.response.status = 200
        read = self._settings.api.read_event
        if job.ask.stream:
            chunks: list[tuple[Ns, Any]] = []
            try:
                chunks.extend((now(), chunk) for chunk in got)
            finally:  # parsed afterwards, as with the own client
                for at, chunk in chunks:
                    delta = read(chunk.model_dump_json().encode())
                    if answer.take(delta):
                        answer.chunk_times.append(at)
        elif isinstance(got, str):
            raise ApiError(f"not a chat completion: {got!r}")
        else:
            answer.take(read(got.model_dump_json().encode()))


def _status_outcome(status: int) -> Outcome:
    return {4: Outcome.HTTP_4XX, 5: Outcome.HTTP_5XX}.get(status // 100, Outcome.HTTP_3XX)


def _transport_errors() -> type[Exception]:
    """Return the base of the SDK's transport errors, which it lets through in mid-stream."""
    import httpx2

    return httpx2.HTTPError

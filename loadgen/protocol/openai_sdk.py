"""Requests through the openai SDK, to measure what the SDK costs.

Times are those at which the SDK hands a chunk to its caller, so they include its parsing and its scheduling. Records
have ``client: openai`` and ``stamp: user``.
"""

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import openai

from loadgen.clock import Ns, now
from loadgen.protocol.api import ApiError
from loadgen.protocol.client import Settings
from loadgen.protocol.completion import Completion, Exchange
from loadgen.protocol.outcome import decide
from loadgen.protocol.records import record_of
from loadgen.record import Outcome, RequestRecord
from loadgen.request import Request
from loadgen.wire.fault import Fault
from loadgen.wire.proxy import Proxy
from loadgen.wire.trace import trace_headers
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import Waiter

ROUTE = "/chat/completions"
"""What the SDK appends to its base URL."""

_PARAMETERS = {"model", "messages", "max_tokens", "temperature", "stream", "stream_options"}
"""Fields of a body that the SDK takes by name; an engine's own go through ``extra_body``."""


def open_sdk(settings: Settings) -> openai.OpenAI:
    """Return a client of the SDK, to be shared by all users; without retries, which would hide failures."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # otherwise it logs one line per request
    timeouts, target = settings.timeouts, settings.target
    path, _, query = settings.path(stream=True).partition("?")
    return openai.OpenAI(
        base_url=target.origin + path.removesuffix(ROUTE),
        api_key="none",
        max_retries=0,
        timeout=openai.Timeout(timeouts.total, connect=timeouts.connect, read=timeouts.idle),
        default_headers=settings.headers,
        default_query=dict(parse_qsl(query, keep_blank_values=True)),
        http_client=openai.DefaultHttpxClient(
            verify=target.tls if target.tls is not None else True,
            proxy=None if target.proxy is None else _proxy(target.proxy),
            trust_env=False,
        ),
    )


def _proxy(proxy: Proxy) -> Any:  # noqa: ANN401 of the library below the SDK
    import httpx2

    headers = {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
    return httpx2.Proxy(f"http://{proxy.address}", headers=headers)


class OpenAIClient:
    """Sends one request at a time through the SDK; one client per user."""

    def __init__(
        self, sdk: openai.OpenAI, settings: Settings, waiter: Waiter, keep: Callable[[RequestRecord], None]
    ) -> None:
        self._sdk = sdk
        self._settings = settings
        self._waiter = waiter
        self._keep = keep
        self._headers: dict[str, Any] = {}
        """Sent with each request: the SDK wants to be told if the key is not its to send."""
        if "Authorization" not in settings.headers:
            self._headers["Authorization"] = openai.Omit()

    def send(self, request: Request) -> Exchange:
        """Make a request; return its record and the answer. The server's faults are outcomes; none is raised."""
        body = msgspec.to_builtins(self._settings.body(request))  # outside the try: what fails here is not the server's
        transcript = Transcript()
        completion = Completion(streamed=request.stream)
        try:
            self._ask(request, body, transcript, completion)
            transcript.fault = None
        except openai.APIStatusError as error:
            transcript.response.status = error.status_code
            completion.refusal = f"HTTP {error.status_code}: {error.message}"
        except openai.APITimeoutError as error:
            outcome = Outcome.IDLE_TIMEOUT if completion.chunk_times else Outcome.FIRST_BYTE_TIMEOUT
            transcript.fault = Fault(outcome, str(error))
        except openai.APIConnectionError as error:
            transcript.fault = Fault(Outcome.REFUSED, f"{error} {error.__cause__ or ''}".strip())
        except openai.OpenAIError as error:
            transcript.fault = Fault(Outcome.BROKEN_STREAM, str(error))
        except (ApiError, ValueError) as error:
            completion.unreadable = str(error)
        except RecursionError:
            completion.unreadable = "the answer's JSON is nested too deep"
        except _transport_errors() as error:
            transcript.fault = Fault(Outcome.BROKEN_STREAM, f"{type(error).__name__}: {error}")
        finally:
            exchange = self._conclude(request, transcript, completion)
            self._keep(exchange.record)
        return exchange

    def close(self) -> None:
        """Do nothing: the SDK's client is shared."""

    def _conclude(self, request: Request, transcript: Transcript, completion: Completion) -> Exchange:
        transcript.end = now()
        settings = self._settings
        completion.outcome, completion.error = decide(transcript.fault, transcript.response.status, completion)
        completion.redact(settings.secrets)
        arrivals = transcript.arrivals()
        record = record_of(request, transcript, arrivals, completion, settings.count_tokens, client="openai")
        return Exchange(record, completion)

    def _ask(self, request: Request, body: dict[str, Any], transcript: Transcript, completion: Completion) -> None:
        extra = {name: body.pop(name) for name in set(body) - _PARAMETERS}
        create: Any = self._sdk.chat.completions.create
        if request.not_before is not None:
            self._waiter.sleep_until(request.not_before)
        transcript.sent = now()
        response = create(**body, extra_body=extra, extra_headers=trace_headers(request.id) | self._headers)
        transcript.response.status = 200
        read = self._settings.api.read_event
        if request.stream:
            chunks: list[tuple[Ns, Any]] = []
            try:
                chunks.extend((now(), chunk) for chunk in response)
            finally:  # decoded afterwards, as with the own client
                for at, chunk in chunks:
                    if completion.add(read(chunk.model_dump_json().encode())):
                        completion.chunk_times.append(at)
        elif isinstance(response, str):
            raise ApiError(f"not a chat completion: {response!r}")
        else:
            completion.add(read(response.model_dump_json().encode()))


def _transport_errors() -> type[Exception]:
    """Return the base of the SDK's transport errors, which it lets through in mid-stream."""
    import httpx2

    return httpx2.HTTPError

"""What one user of a closed loop works with: it sends a request, waits for the answer, and only then sends the next."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from loadgen.clock import SECOND, Ns
from loadgen.protocol.completion import Exchange
from loadgen.record import Outcome, Phase, RequestRecord
from loadgen.request import Place, Request
from loadgen.run.answer import Answer, ChatFailed
from loadgen.run.chat_input import ChatInput, messages_of
from loadgen.run.request_source import Permit
from loadgen.run.runtime import Runtime
from loadgen.run.share import FlowControl, RunShare, Sender, ShareHost

AFTER_REFUSAL_S = 0.25
"""A user pauses this long after a refusal, or a server that refuses would be asked thousands of times a second."""

LONGEST_PAUSE_S = 60.0
"""A server may ask to be left alone for longer; it is asked again after this."""

AFTER_END_S = 0.1
"""A user that goes on asking after the end of the run pauses this long each time."""

_REFUSALS = {
    Outcome.REFUSED,
    Outcome.CLIENT_LIMIT,
    Outcome.DNS,
    Outcome.TLS,
    Outcome.RATE_LIMITED,
    Outcome.HTTP_3XX,
    Outcome.HTTP_4XX,
    Outcome.HTTP_5XX,
}
"""Outcomes of requests that were turned away, mostly at once."""

_FIELDS_OF_RUN = ("model", "stream", "stream_options", "n")
"""Fields of a body that are the same for all requests of a run: it measures one model, in one way."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The user whose requests a client sends."""

    user_class: str = ""
    """Name of its class."""
    task_name: Callable[[], str | None] = lambda: None
    """Returns the name of the present task, which names requests that are given no other name."""
    context: Callable[[], Mapping[str, object]] = dict
    """Returns what listeners of the host get together with a record."""


_NOBODY, _NO_LISTENERS = Caller(), FlowControl()


_NO_FIELDS = {
    "timeout": "--first-byte-timeout and its like hold for all requests",
    "headers": "headers are the same for all requests",
    "catch_response": "a failed request is an answer with its outcome, see answer.ok",
    "max_completion_tokens": "give max_tokens, which is sent as the API wants it",
}
"""What HTTP clients and SDKs take, and what to do here."""


class SamplePrompt(str):
    """A prompt of the run's sample. It is a string, and knows which row it is, so that its record names the row."""

    __slots__ = ("request",)
    request: Request

    @classmethod
    def of(cls, request: Request) -> Self:
        """Return the prompt of a request that the run's source has made."""
        prompt = cls(request.text)
        prompt.request = request
        return prompt


class LLMClient:
    """Sends the requests of one user, one after another."""

    def __init__(
        self,
        share: RunShare,
        host: ShareHost,
        runtime: Runtime,
        *,
        caller: Caller = _NOBODY,
        flow_control: FlowControl = _NO_LISTENERS,
    ) -> None:
        self._share, self._host, self._runtime = share, host, runtime
        self._caller, self._flow_control = caller, flow_control
        self._is_over = False
        self._number = share.source.register_user()
        self._defaults = share.source.defaults_of(caller.user_class)
        self._permit: Permit | None = None
        self._sender: Sender | None = None
        self._pause_s = 0.0
        """To be made before the next request, by the outcome of the last."""
        self._answered_at: Ns | None = None
        self._think_ns: Ns | None = None
        """Time that the user has taken for the request that it has a permit for."""

    def chat(
        self,
        input: ChatInput | None = None,  # noqa: A002 as the openai SDK calls it
        max_tokens: int | None = None,
        *,
        name: str | None = None,
        raise_on_failure: bool = False,
        messages: ChatInput | None = None,
        **body: Any,  # noqa: ANN401 fields of a JSON object
    ) -> Answer:
        """Send a request and wait for its end.

        ``input`` is a question, or the messages of a chat: dicts with role and content, or strings of alternating
        roles; ``messages`` is the same by the openai SDK's name. ``name`` groups figures; without it requests have the
        name of their task. ``body`` holds further fields of the request, such as ``temperature`` or ``top_p``.

        A failed request is an answer with its outcome; with ``raise_on_failure`` it raises ChatFailed. Raises
        ValueError or TypeError for an input that cannot be sent, and ``flow_control.ended`` when the run is over.
        """
        if (input is None) == (messages is None):
            raise TypeError("chat() needs one input: a question, or the messages of a chat")
        content = messages if input is None else input
        assert content is not None
        request = self._request(content, max_tokens, body)
        place = replace(request.place, name=_encodable(name or self._caller.task_name()))
        permit = self._take_permit()
        request = replace(request, place=place, think_ns=self._think_ns)
        answer = self._answer(request, self._send(request, permit))
        if raise_on_failure and not answer.ok:
            raise ChatFailed(answer)
        return answer

    def next_prompt(self) -> str:
        """Return the next prompt of the run's sample, to be sent by this user's next :meth:`chat`.

        Raises ``flow_control.ended`` when the run is over.
        """
        request = self._share.source.next_request(self._number, permit := self._take_permit())
        if request is None:  # the source has taken the permit back
            raise self._over()
        self._permit = permit
        return SamplePrompt.of(request)

    def close(self) -> None:
        """Close the connection, and leave a request that was not sent to others."""
        if self._permit is not None:
            self._share.source.give_back(self._permit)
            self._permit = None
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def _request(self, content: ChatInput, max_tokens: int | None, body: dict[str, Any]) -> Request:
        """Return what is asked, with the fields of this user's class and those given over them."""
        _check_body(body)
        defaults = self._defaults
        if isinstance(content, SamplePrompt):
            asked = content.request
            request = defaults.request(asked.input, asked.place, asked.row_fields)
        else:
            parts = content if isinstance(content, str | bytes) or not isinstance(content, Iterable) else tuple(content)
            place, row_fields = _of_sample(parts)
            request = defaults.request(messages_of(parts), place, row_fields)
        if max_tokens is not None:
            request = replace(request, max_tokens=_checked_limit(max_tokens))
        temperature, stop = body.pop("temperature", request.temperature), body.pop("stop", request.stop)
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        body = {**request.body, **body}
        return replace(request, temperature=_checked_temperature(temperature), stop=stop, body=body)

    def _take_permit(self) -> Permit:
        """Return the permit that the user holds, or wait for one; raises RunEnded when the run is over."""
        if self._permit is not None:
            permit, self._permit = self._permit, None
            return permit
        self._think_ns = None if self._answered_at is None else Ns(self._runtime.now() - self._answered_at)
        if self._sender is None:
            self._sender = self._host.new_client(self._keep)
        permit_or_none = None if self._sender is None else self._share.source.admit(self._number)
        if permit_or_none is None:
            raise self._over()
        return permit_or_none

    def _over(self) -> Exception:
        """Return the exception that ends the user. Code that catches it and asks again must not block the process."""
        if self._is_over:
            self._runtime.sleep(AFTER_END_S)
        self._is_over = True
        return self._flow_control.ended()

    def _send(self, request: Request, permit: Permit) -> Exchange:
        assert self._sender is not None
        is_from_source = request.place.prompt_row is not None and permit.phase is Phase.MEASURE
        request = self._share.source.hand_out(request, permit)
        try:
            exchange = self._sender.send(request)
            if is_from_source:
                self._share.source.take_result(request, exchange)
        except self._flow_control.passed_on:
            raise
        except Exception as error:  # noqa: BLE001 reported once, there
            self._share.give_up(request, error)
            raise self._over() from None
        finally:
            self._answered_at = self._runtime.now()
        if self._pause_s:
            self._pause()
            self._answered_at = self._runtime.now()
        return exchange

    def _pause(self) -> None:
        """Leave the server alone for a while, or until the run ends."""
        until = self._runtime.now() + int(self._pause_s * SECOND)
        while (left := until - self._runtime.now()) > 0 and not self._share.source.finishing:
            self._runtime.sleep(min(AFTER_REFUSAL_S, left / SECOND))

    @staticmethod
    def _answer(request: Request, exchange: Exchange) -> Answer:
        return Answer(exchange.record, request.messages, exchange.completion)

    def _keep(self, record: RequestRecord) -> None:
        asked = AFTER_REFUSAL_S if record.retry_after_s is None else record.retry_after_s
        self._pause_s = min(asked, LONGEST_PAUSE_S) if record.outcome in _REFUSALS else 0.0
        self._share.keep(record, self._context())

    def _context(self) -> Mapping[str, object]:
        try:
            return self._caller.context()
        except Exception as error:  # noqa: BLE001 code of the user's, whose errors are counted
            self._share.user_code.note_error(error)
            return {}


def _of_sample(content: object) -> tuple[Place, Mapping[str, Any]]:
    """Return place and row fields of a user's own messages: those of the last prompt of the sample among them.

    Raises ValueError for a prompt of several messages: they would become the text of one.
    """
    parts = content if isinstance(content, tuple) else ()
    contents = [part.get("content") if isinstance(part, dict) else getattr(part, "content", part) for part in parts]
    prompts = [part for part in contents if isinstance(part, SamplePrompt)]
    if several := [prompt for prompt in prompts if len(prompt.request.messages) > 1]:
        row = several[0].request.place.prompt_row
        raise ValueError(f"chat(): row {row} of the data set has several messages: pass next_prompt() alone")
    if not prompts:
        return Place(), {}
    request = prompts[-1].request
    return Place(prompt_row=request.place.prompt_row, round=request.place.round), request.row_fields


def _check_body(body: Mapping[str, object]) -> None:
    """Raise ValueError or TypeError for further fields of a request that cannot be sent."""
    if fixed := [field for field in _FIELDS_OF_RUN if field in body]:
        raise ValueError(f"chat(): {', '.join(fixed)} is the same for all requests of a run; it cannot be given")
    if foreign := [name for name in _NO_FIELDS if name in body]:
        raise ValueError(f"chat(): {', '.join(foreign)} is no field of a request: {_NO_FIELDS[foreign[0]]}")
    try:
        msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"chat(): {', '.join(body)} cannot be sent as JSON: {error}") from None


def _encodable(name: str | None) -> str | None:
    """Return a name with its unpaired surrogates escaped, so that its record can be written."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"chat(): name must be a string, got {name!r}")
    return None if name is None else name.encode(errors="backslashreplace").decode()


def _checked_limit(max_tokens: object) -> int:
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        raise ValueError(f"chat(): max_tokens must be a whole number of at least 1, got {max_tokens!r}")
    return max_tokens


def _checked_temperature(temperature: object) -> float:
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 <= temperature < float("inf"):  # type: ignore[operator]
        raise ValueError(f"chat(): temperature must be a number of at least 0, got {temperature!r}")
    return temperature  # type: ignore[return-value]

"""One request, from what is asked to its record and its answer: messages, place, template, API, outcome."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

import msgspec
import pytest
from asking import question
from hypothesis import given
from hypothesis import strategies as st
from serving import answer, response, serving, stream, token

from loadgen.launch.chat import applied
from loadgen.protocol.api import Delta, Product, decode_json
from loadgen.protocol.chat import ChatApi
from loadgen.protocol.client import Client, Settings
from loadgen.protocol.completion import Completion
from loadgen.protocol.outcome import decide
from loadgen.record import Outcome, Phase
from loadgen.request import Message, Place, Request
from loadgen.wire.fault import ABORTED, Fault
from loadgen.wire.response_reader import Timeouts
from loadgen.wire.target import parse_target
from loadgen.wire.waiting import PollWaiter
from loadgen.workload.defaults import RequestDefaults, UserClass
from loadgen.workload.prompts import Prompt
from loadgen.workload.source import SampleSource

DEFAULTS = RequestDefaults(model="m", max_tokens=16, temperature=0.0, stream=True, stop=("###",))
PROMPTS = [Prompt(row, f"question {row}") for row in (3, 1, 4, 15, 9)]


def settings_for(url: str, **changes: Any) -> Settings:
    return replace(Settings(parse_target(url), ChatApi(), Timeouts(30, 30, 30, 60)), **changes)


def sent_body(asked: Request, **changes: Any) -> dict[str, Any]:
    """What the server is sent."""
    with serving(answer()) as server:
        exchange = Client(settings_for(server.url, **changes), PollWaiter()).send(asked)
    assert exchange.record.outcome is Outcome.OK
    body: dict[str, Any] = json.loads(server.requests[0].body)
    return body


def test_messages_are_sent_as_they_are_and_text_as_one_of_the_user() -> None:
    chat = (Message("system", "Be brief."), Message("user", "Why?"), Message("assistant", "So."), Message("user", "?"))
    roles = [{"role": m.role, "content": m.content} for m in chat]
    assert sent_body(question(input=chat))["messages"] == roles
    assert sent_body(question("Why?"))["messages"] == [{"role": "user", "content": "Why?"}]


def test_fields_of_a_request_are_added_to_the_body_and_cannot_replace_those_of_the_api() -> None:
    body = sent_body(question(body={"top_k": 5, "model": "another", "stream": False}, stop=("a", "b"), max_tokens=3))
    assert (body["top_k"], body["model"], body["stream"]) == (5, "scripted", True)
    assert (body["stop"], body["max_tokens"]) == (["a", "b"], 3)


def test_a_chat_template_is_applied_to_each_request_that_has_messages() -> None:
    def template(messages: Sequence[Message]) -> str:
        return "".join(f"<{m.role}>{m.content}" for m in messages) + "<assistant>"

    chat = (Message("system", "Be brief."), Message("user", "Why?"))
    body = sent_body(question(input=chat), template=template)
    assert body["messages"] == [{"role": "user", "content": "<system>Be brief.<user>Why?<assistant>"}]
    assert sent_body(question("Why?"), template=template)["messages"][0]["content"] == "Why?"


def test_a_template_gets_a_list_of_dictionaries_as_the_hubs_templates_expect() -> None:
    template = applied(
        "{% for m in [{'role': 'system', 'content': 'S'}] + messages %}{{ m.role }}={{ m['content'] }};{% endfor %}"
    )
    assert template((Message("user", "Why?"),)) == "system=S;user=Why?;"


def test_answers_of_a_given_length_are_asked_for_with_each_requests_own_limit() -> None:
    def fields(tokens: int) -> dict[str, Any]:
        return {"min_tokens": tokens, "ignore_eos": True}

    body = sent_body(question(max_tokens=5, body={"ignore_eos": False}), length_fields=fields)
    assert (body["min_tokens"], body["max_tokens"], body["ignore_eos"]) == (5, 5, False)


def test_the_record_has_the_place_of_its_request() -> None:
    place = Place(
        phase=Phase.WARMUP,
        worker=3,
        step=2,
        user=17,
        name="follow-up",
        conversation=5,
        turn=1,
        prompt_row=None,
        round=4,
    )
    with serving(answer()) as server:
        record = Client(settings_for(server.url), PollWaiter()).send(question(place=place)).record
    assert {name: getattr(record, name) for name in place.__struct_fields__} == msgspec.structs.asdict(place)


@pytest.mark.parametrize("think_ns", [None, 1_500_000_000])
def test_the_record_has_the_users_think_time_before_its_request(think_ns: int | None) -> None:
    with serving(answer()) as server:
        record = Client(settings_for(server.url), PollWaiter()).send(question(think_ns=think_ns)).record
    assert record.think_ns == think_ns


@pytest.mark.parametrize("lazy", [False, True])
def test_the_text_of_an_answer_is_there_for_whoever_asks(*, lazy: bool) -> None:
    with serving(answer(40, pause=0.002)) as server:
        exchange = Client(settings_for(server.url), PollWaiter()).send(question(lazy=lazy))
    assert (exchange.record.outcome, exchange.record.output_tokens) == (Outcome.OK, 40)
    assert exchange.completion.skipped is lazy
    assert exchange.completion.text == "".join(f"t{i} " for i in range(40))


def test_a_request_that_is_interrupted_has_its_record_all_the_same() -> None:
    class Interrupts(PollWaiter):
        def receive(self, reader: Any) -> None:  # noqa: ARG002
            raise KeyboardInterrupt

    records = []
    with serving(answer()) as server, pytest.raises(KeyboardInterrupt):
        Client(settings_for(server.url), Interrupts(), records.append).send(question())
    assert [(r.outcome, r.error) for r in records] == [(Outcome.ABORTED, ABORTED.message)]


# An API that produces no tokens.


class _Vectors(msgspec.Struct):
    data: list[dict[str, Any]] = []


@dataclass(frozen=True)
class EmbeddingsApi:
    """An API of vectors, as small as one can be."""

    produces: ClassVar[Product] = "vectors"
    stream_end: ClassVar[bytes | None] = None

    def path(self, *, stream: bool) -> str:  # noqa: ARG002
        return "/v1/embeddings"

    def body(self, request: Request) -> Mapping[str, Any]:
        return {"model": request.model, "input": request.text}

    def read_event(self, data: bytes) -> Delta:
        return self.read_answer(data)

    def read_events(self, events: Sequence[bytes]) -> Sequence[Delta | str]:
        return [self.read_event(data) for data in events]

    def has_token(self, data: bytes) -> object:  # noqa: ARG002
        return False

    def text_span(self, event: bytes) -> None:  # noqa: ARG002
        return None

    def read_answer(self, body: bytes) -> Delta:
        return Delta(items=len(decode_json(msgspec.json.Decoder(_Vectors), body, "embeddings").data))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"data":[{"embedding":[0.1,0.2]}]}', (Outcome.OK, None)),
        (b'{"data":[]}', (Outcome.EMPTY, "HTTP 200 without a single vector")),
    ],
)
def test_an_api_may_produce_vectors_and_success_is_witnessed_by_one(
    body: bytes, expected: tuple[Outcome, str | None]
) -> None:
    with serving([(0, response(body))]) as server:
        client = Client(settings_for(server.url, api=EmbeddingsApi()), PollWaiter())
        exchange = client.send(question("Why?", stream=False))
    assert (exchange.record.outcome, exchange.record.error) == expected
    assert server.requests[0].path == "/v1/embeddings"
    record = exchange.record
    assert (record.output_tokens, record.counted_by, record.chunks, record.output_characters) == (None,) * 4
    assert record.first_token_ns is None


# The outcome.

BROKEN = Fault(Outcome.BROKEN_STREAM, "the server closed the connection in mid-answer")
TIMEOUT = Fault(Outcome.TOTAL_TIMEOUT, "not complete after 5 s")


def said(*texts: str, **known: Any) -> Completion:
    completion = Completion(**{"streamed": True} | known)
    for text in texts:
        completion.add_text(text)
    return completion


@pytest.mark.parametrize(
    ("fault", "status", "completion", "expected"),
    [
        (None, 200, said("a", finish_reason="stop"), (Outcome.OK, None)),
        (None, 200, said("a", ended=True), (Outcome.OK, None)),
        (BROKEN, 200, said("a", ended=True), (Outcome.OK, None)),
        (BROKEN, 200, said("a", finish_reason="stop"), (BROKEN.outcome, BROKEN.message)),
        (TIMEOUT, 200, said("a", ended=True), (TIMEOUT.outcome, TIMEOUT.message)),
        (ABORTED, 0, said(), (ABORTED.outcome, ABORTED.message)),
        (None, 503, said(refusal="HTTP 503: busy"), (Outcome.HTTP_5XX, "HTTP 503: busy")),
        (TIMEOUT, 503, said(refusal="HTTP 503: busy"), (Outcome.HTTP_5XX, "HTTP 503: busy")),
        (None, 204, said(refusal="HTTP 204: no message"), (Outcome.BAD_PROTOCOL, "HTTP 204: no message")),
        (TIMEOUT, 200, said(unreadable="not JSON"), (Outcome.BAD_PROTOCOL, "not JSON")),
        (None, 200, said("a", reported_error="boom"), (Outcome.BROKEN_STREAM, "error in the answer: boom")),
        (
            None,
            200,
            said("a", finish_reason="abort"),
            (Outcome.BROKEN_STREAM, "the answer ended with finish_reason 'abort'"),
        ),
        (None, 200, said(ended=True), (Outcome.EMPTY, "HTTP 200 without a single token")),
        (
            None,
            200,
            said("a"),
            (Outcome.BROKEN_STREAM, "the stream ended without a finish reason and without an end mark"),
        ),
    ],
)
def test_the_outcome_follows_from_fault_status_and_answer(
    fault: Fault | None, status: int, completion: Completion, expected: tuple[Outcome, str | None]
) -> None:
    assert decide(fault, status, completion) == expected


def test_a_stream_that_ends_only_with_the_connection_is_over_at_the_apis_own_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    body = token("a", "stop") + b"data: [DONE]\n\n"
    with serving([(0, head), (0, body)], close_after=30.0) as server:
        record = Client(settings_for(server.url), PollWaiter()).send(question()).record
    assert record.outcome is Outcome.OK


def test_a_stream_without_an_answer_is_empty() -> None:
    with serving(stream(b"data: [DONE]\n\n")) as server:
        record = Client(settings_for(server.url), PollWaiter()).send(question()).record
    assert record.outcome is Outcome.EMPTY


# Sources.


@given(st.integers(1, 7), st.integers(0, 99))
def test_the_shards_of_a_source_together_ask_what_one_process_asks(shards: int, seed: int) -> None:
    count = 3 * len(PROMPTS)
    whole = SampleSource(PROMPTS, DEFAULTS, seed)
    expected = [place(whole.next(0)) for _ in range(count * shards)]
    parts = [SampleSource(PROMPTS, DEFAULTS, seed, shard, shards) for shard in range(shards)]
    turns = [place(parts[i % shards].next(0)) for i in range(count * shards)]
    assert turns == expected
    assert len({row for row, _ in islice(expected, len(PROMPTS))}) == len(PROMPTS)


def place(request: Request) -> tuple[int | None, int]:
    return request.place.prompt_row, request.place.round


def test_a_request_of_a_source_has_the_runs_limits_and_its_user() -> None:
    request = SampleSource(PROMPTS, DEFAULTS, 42).next(6)
    assert request == Request(
        input=(Message("user", "question 3"),),
        model="m",
        max_tokens=16,
        stop=("###",),
        place=Place(user=6, prompt_row=3),
    )
    of_class = UserClass(max_tokens=99, extra_body={"top_p": 0.5}).applied_to(DEFAULTS)
    longer = of_class.request("text as it is", Place())
    assert (longer.input, longer.max_tokens, longer.text) == ("text as it is", 99, "text as it is")
    assert longer.body == {"top_p": 0.5}

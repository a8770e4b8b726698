"""What servers, providers and gateways send that a textbook does not show: the bytes, and what is right for each.

The numbers are those of a collection of reports about real servers; A is framing, B errors inside a success, C counting
and D what a token is.
"""

import gzip
import json
from dataclasses import dataclass
from typing import Any

from serving import LAST_CHUNK, RESET, SSE_HEAD, chunk, event, response

from loadgen.record import CountedBy, Outcome

OK, BROKEN, BAD = Outcome.OK, Outcome.BROKEN_STREAM, Outcome.BAD_PROTOCOL
USAGE, CORRECTED, CHUNKS = CountedBy.USAGE, CountedBy.USAGE_CORRECTED, CountedBy.CHUNKS


@dataclass(frozen=True, kw_only=True)
class Oddity:
    """A stream, and what it has to become."""

    number: str
    sends: tuple[bytes, ...]
    """Parts of the response, sent one by one with pauses."""
    outcome: Outcome = OK
    tokens: int | None = None
    counted_by: CountedBy | None = USAGE
    first: int | None = None
    """Send in which the first token comes; None where there is no first token."""
    error: str = ""
    """Part of the error."""
    chunks: int | None = None
    """Tokens that were seen as events, where only that tells that it was read rightly."""
    finish_reason: str | None = "stop"
    characters: int | None = None
    stream: bool = True
    more: dict[str, Any] | None = None
    """Further fields of the record."""


def toto_json(value: Any) -> str:
    """JSON as servers write it."""
    return json.dumps(value, separators=(",", ":"))


def to_json(value: Any) -> str:
    """JSON as servers write it."""
    return json.dumps(value, separators=(",", ":"))


def content(text: str, finish: str | None = None, index: int = 0) -> bytes:
    """An event with a piece of content."""
    return choice({"content": text}, finish, index)


def choice(delta: Any, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """An event with a delta."""
    return event(to_json({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]} | more))


def finish(reason: str | None = "stop", **more: Any) -> bytes:
    """An event that ends the answer."""
    return choice({}, reason, **more)


def usage(output: Any, given: Any = 3, **more: Any) -> bytes:
    """An event with usage and no choice."""
    counts = {"prompt_tokens": given, "completion_tokens": output}
    if isinstance(output, int) and isinstance(given, int):
        counts["total_tokens"] = output + given
    return event(to_json({"choices": [], "usage": counts | more}))


def with_usage(counts: dict[str, Any]) -> bytes:
    """An event with a usage of one's own and no choice."""
    return event(to_json({"choices": [], "usage": counts}))


DONE = event("[DONE]")
ENDED = (finish(), usage(1), DONE)


def sse(*events: bytes, end: bytes = LAST_CHUNK, head: bytes = SSE_HEAD) -> tuple[bytes, ...]:
    """A chunked stream: the head, each event in a chunk of its own, the last chunk. The head is send 0."""
    return (head, *map(chunk, events), *([end] if end else []))


def head(kind: str | None = "text/event-stream", *more: str) -> bytes:
    """The head of a chunked response."""
    lines = ["HTTP/1.1 200 OK", *([f"Content-Type: {kind}"] if kind else []), "Transfer-Encoding: chunked", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(tokens: int = 2, text: str = "ab") -> bytes:
    """The JSON of an answer that is not streamed."""
    said = [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]
    counts = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": tokens + 3}
    return to_json({"object": "chat.completion", "choices": said, "usage": counts}).encode()


def crlf(events: bytes) -> bytes:
    """The same events with other line ends."""
    return events.replace(b"\n", b"\r\n")


def spaced(data: bytes) -> bytes:
    """The same event with its JSON written wide, and its keys in another order."""
    value = json.loads(data.removeprefix(b"data: "))
    wide = json.dumps(dict(reversed(value.items())), separators=(" , ", " : "))
    return event(wide)


TWO = (content("a"), content("b"), finish(), usage(2), DONE)
NO_DATA = {"output_tokens": None}
PING = b": ping - 2026-11-28 09:00:00.000000+00:00\n\n"

FRAMING = [
    Oddity(number="A1", sends=sse(b": \n\n", b": \n\n", content("a"), *ENDED), tokens=1, first=3),
    Oddity(
        number="A2",
        sends=sse(content("a"), b": OPENROUTER PROCESSING\n\n", content("b"), finish(), usage(2), DONE),
        tokens=2,
        first=1,
    ),
    Oddity(number="A4", sends=sse(content("a"), b"data:\n\n", *ENDED), tokens=1, first=1),
    Oddity(
        number="A4 among many",
        sends=sse(content("a"), b"data:\n\n", b": c\n\n", b"data: \n\n", *TWO[1:]),
        tokens=2,
        first=1,
    ),
    Oddity(number="A5", sends=sse(*map(crlf, (PING, content("a"), PING, *ENDED))), tokens=1, first=2),
    Oddity(number="A6 CR", sends=sse(*(e.replace(b"\n", b"\r") for e in (content("a"), *ENDED))), tokens=1, first=1),
    Oddity(number="A6 BOM", sends=sse(b"\xef\xbb\xbf" + content("a"), *ENDED), tokens=1, first=1),
    Oddity(
        number="A6 fields",
        sends=sse(b"id: 1\n" + content("a"), b"retry: 3000\n" + finish(), usage(1), DONE),
        tokens=1,
        first=1,
    ),
    Oddity(
        number="A7",
        sends=sse(content("a").replace(b'"index"', b'\ndata: "index"'), *ENDED),
        tokens=1,
        first=1,
    ),
    Oddity(number="A8", sends=sse(*(e.replace(b"data: ", b"data:") for e in TWO)), tokens=2, first=1),
    Oddity(number="A9 one LF", sends=sse(content("a"), finish(), usage(1), b"data: [DONE]\n"), tokens=1, first=1),
    Oddity(number="A9 no LF", sends=sse(content("a"), finish(), usage(1), b"data: [DONE]"), tokens=1, first=1),
    Oddity(number="A10", sends=sse(content("a"), *ENDED, DONE), tokens=1, first=1),
    Oddity(number="A11", sends=sse(content("a"), finish(), DONE, usage(7)), tokens=7, first=1),
    Oddity(
        number="A12 list", sends=sse(content("a"), usage(1), event('["DONE"]')), tokens=1, first=1, finish_reason=None
    ),
    Oddity(
        number="A12 text", sends=sse(content("a"), usage(1), event('"[DONE]"')), tokens=1, first=1, finish_reason=None
    ),
    Oddity(number="A13", sends=sse(content("a"), finish()), tokens=1, first=1, counted_by=CHUNKS),
    Oddity(
        number="A13 by its end",
        sends=(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", content("a"), finish()),
        tokens=1,
        first=1,
        counted_by=CHUNKS,
    ),
    Oddity(
        number="A14",
        sends=sse(content("a"), content("b")),
        outcome=BROKEN,
        first=1,
        error="without a finish reason and without an end mark",
        finish_reason=None,
    ),
    Oddity(number="A15", sends=sse(content("a"), DONE), tokens=1, first=1, counted_by=CHUNKS, finish_reason=None),
    Oddity(
        number="A16",
        sends=(
            response(content("a") + content("b"), kind="text/event-stream").partition(b"data:")[0],
            *TWO,
        ),
        outcome=BROKEN,
        first=1,
        finish_reason=None,
    ),
    Oddity(number="A17", sends=(SSE_HEAD, chunk(content("a")), RESET), outcome=BROKEN, first=1, finish_reason=None),
    Oddity(
        number="A18",
        sends=(head("text/event-stream", "Content-Encoding: gzip"), chunk(gzip.compress(b"".join(TWO))), LAST_CHUNK),
        outcome=BAD,
        error="gzip",
        finish_reason=None,
    ),
    *(
        Oddity(number=f"A19 {kind}", sends=sse(*TWO, head=head(kind)), tokens=2, first=1)
        for kind in ("application/json", "application/x-ndjson", None)
    ),
    Oddity(number="A20", sends=(response(whole()),), tokens=2),
    Oddity(number="A20 as a stream", sends=(response(whole(), kind="text/event-stream"),), tokens=2),
    Oddity(number="A20 and DONE", sends=(response(whole() + b"\n\n" + DONE, kind="text/event-stream"),), tokens=2),
    Oddity(
        number="A21",
        sends=(response(b"".join(e.removeprefix(b"data: ")[:-1] for e in TWO[:-1]), kind="application/x-ndjson"),),
        outcome=BAD,
        error="NDJSON",
        finish_reason=None,
    ),
    Oddity(
        number="A22",
        sends=(head("application/json"), *[chunk(b"\n")] * 20, chunk(whole()), LAST_CHUNK),
        tokens=2,
        stream=False,
    ),
    Oddity(
        number="A22 for a stream",
        sends=(head("application/json"), *[chunk(b"\n")] * 20, chunk(whole()), LAST_CHUNK),
        tokens=2,
    ),
    Oddity(
        number="A23",
        sends=(
            SSE_HEAD,
            *[chunk(content("word ")) * 65] * 3,
            chunk(b"".join(ENDED)),
            LAST_CHUNK,
        ),
        tokens=1,
        first=1,
    ),
    Oddity(
        number="A24",
        sends=(
            SSE_HEAD,
            *(chunk(part) for part in (content("é").replace(b"\\u00e9", "é".encode()).partition(b"\xa9"))),
            *map(chunk, ENDED),
            LAST_CHUNK,
        ),
        tokens=1,
        first=3,
        characters=1,
    ),
    Oddity(number="A25", sends=sse(*map(spaced, TWO[:-1]), DONE), tokens=2, first=1),
]

M = {"code": 502, "message": "m"}
ERRORS = [
    Oddity(
        number="B1",
        sends=sse(content("a"), choice({"content": ""}, "error", error=M), DONE),
        outcome=BROKEN,
        first=1,
        error="m",
        finish_reason="error",
    ),
    Oddity(number="B2", sends=sse(content("a"), finish("error"), DONE), outcome=BROKEN, first=1, finish_reason="error"),
    Oddity(
        number="B3",
        sends=sse(content("a"), event(to_json({"error": M})), DONE),
        outcome=BROKEN,
        first=1,
        error="m",
        finish_reason=None,
    ),
    Oddity(
        number="B4",
        sends=sse(event(to_json({"choices": [], "error": M}))),
        outcome=BROKEN,
        error="m",
        finish_reason=None,
    ),
    Oddity(
        number="B5",
        sends=sse(content("a"), choice({}, x_groq={"error": "over_capacity"}), DONE),
        outcome=BROKEN,
        first=1,
        error="over_capacity",
        finish_reason=None,
    ),
    Oddity(
        number="B6",
        sends=sse(
            content("a"),
            b"event: error\n" + event(to_json({"type": "error", "error": {"message": "m"}})),
        ),
        outcome=BROKEN,
        first=1,
        error="m",
        finish_reason=None,
    ),
    Oddity(
        number="B7",
        sends=sse(content("a"), finish("abort"), DONE),
        outcome=BROKEN,
        first=1,
        error="abort",
        finish_reason="abort",
    ),
    Oddity(
        number="B8",
        sends=sse(content("a"), finish("content_filter"), usage(1), DONE),
        tokens=1,
        first=1,
        finish_reason="content_filter",
    ),
    Oddity(
        number="B9", sends=(response(to_json({"error": M}).encode()),), outcome=BROKEN, error="m", finish_reason=None
    ),
    Oddity(
        number="B10",
        sends=(response(b"<html><title>Log in</title></html>", kind="text/html"),),
        outcome=BAD,
        error="HTML",
        finish_reason=None,
    ),
    *(
        Oddity(number=f"B11 {none!r}", sends=sse(choice({"content": "a"}, error=none), *ENDED), tokens=1, first=1)
        for none in (None, {}, "")
    ),
    Oddity(
        number="B12",
        sends=(
            response(
                to_json({"error": {"message": "Rate limit reached"}}).encode(),
                status="429 Too Many Requests",
                extra="retry-after: 2\r\n",
            ),
        ),
        outcome=Outcome.RATE_LIMITED,
        error="Rate limit reached",
        finish_reason=None,
        more={"http_status": 429, "retry_after_s": 2.0},
    ),
    Oddity(
        number="B12 ms",
        sends=(response(b"{}", status="429 Too Many Requests", extra="retry-after-ms: 1500\r\n"),),
        outcome=Outcome.RATE_LIMITED,
        finish_reason=None,
        more={"retry_after_s": 1.5},
    ),
    Oddity(
        number="B13",
        sends=(
            response(
                b"upstream connect error or disconnect/reset before headers", status="403 Forbidden", kind="text/plain"
            ),
        ),
        outcome=Outcome.HTTP_4XX,
        error="upstream connect error",
        finish_reason=None,
    ),
    Oddity(
        number="B14 529",
        sends=(response(b"{}", status="529 Overloaded"),),
        outcome=Outcome.RATE_LIMITED,
        finish_reason=None,
    ),
    Oddity(
        number="B14 408",
        sends=(response(b"{}", status="408 Request Timeout"),),
        outcome=Outcome.HTTP_4XX,
        finish_reason=None,
    ),
    Oddity(
        number="B15",
        sends=(response(to_json({"error_code": "17", "error_msg": "m"}).encode()),),
        outcome=BROKEN,
        error="m",
        finish_reason=None,
    ),
]

COUNTING = [
    Oddity(
        number="C1", sends=sse(*[content("a b ")] * 4, finish(), usage(8), DONE), tokens=8, first=1, more={"chunks": 4}
    ),
    Oddity(
        number="C2",
        sends=sse(
            *(choice({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (2, 3, 5)),
            finish(),
            DONE,
        ),
        tokens=5,
        first=1,
    ),
    Oddity(
        number="C3",
        sends=sse(
            *[choice({"content": "a"}, usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})] * 2,
            finish(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}),
            DONE,
        ),
        tokens=2,
        first=1,
        more={"input_tokens": 3},
    ),
    Oddity(
        number="C4",
        sends=sse(
            *[choice({"content": "a"}, usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})] * 2,
            finish(),
            DONE,
        ),
        tokens=2,
        first=1,
        counted_by=CHUNKS,
    ),
    Oddity(
        number="C5",
        sends=sse(content("a"), finish(), with_usage({"input_tokens": 3, "output_tokens": 4}), DONE),
        tokens=4,
        first=1,
        more={"input_tokens": 3},
    ),
    Oddity(
        number="C6",
        sends=sse(
            content("a"),
            finish(),
            with_usage(
                {
                    "prompt_tokens": 12,
                    "completion_tokens": 2,
                    "total_tokens": 331,
                    "completion_tokens_details": {"reasoning_tokens": 317},
                }
            ),
            DONE,
        ),
        tokens=319,
        counted_by=CORRECTED,
        first=1,
        more={"usage_tokens": 2, "reasoning_tokens": 317},
    ),
    Oddity(
        number="C7",
        sends=sse(
            content("a"),
            finish(),
            with_usage(
                {
                    "prompt_tokens": 21,
                    "completion_tokens": 0,
                    "total_tokens": 81,
                    "completion_tokens_details": {"reasoning_tokens": 60},
                }
            ),
            DONE,
        ),
        tokens=60,
        counted_by=CORRECTED,
        first=1,
    ),
    Oddity(
        number="C8",
        sends=sse(
            content("a"),
            finish(x_groq={"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}),
            DONE,
        ),
        tokens=5,
        first=1,
    ),
    Oddity(
        number="C9",
        sends=sse(content("a"), choice({"content": "b"}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 2})),
        tokens=2,
        first=1,
    ),
    Oddity(number="C10 text", sends=sse(content("a"), finish(), usage("5", "3"), DONE), tokens=5, first=1),
    Oddity(number="C10 fraction", sends=sse(content("a"), finish(), usage(5.0, 3.0), DONE), tokens=5, first=1),
    Oddity(
        number="C11",
        sends=sse(
            choice({"content": "a"}, usage={"prompt_tokens": 3, "completion_tokens": 1}), finish(usage=None), DONE
        ),
        tokens=1,
        first=1,
    ),
    Oddity(
        number="C12",
        sends=sse(
            content("a"),
            content("b", index=1),
            content("c"),
            content("d", index=1),
            finish(),
            choice({}, "stop", 1),
            usage(4),
            DONE,
        ),
        tokens=4,
        first=1,
        more={"choices": 2},
    ),
    Oddity(
        number="C13",
        sends=sse(
            choice({"role": "assistant", "content": ""}),
            event(to_json({"choices": [{"index": n, "delta": {"content": said}} for n, said in enumerate(("", "x"))]})),
            finish(),
            usage(1),
            DONE,
        ),
        tokens=1,
        first=2,
        more={"choices": 2},
    ),
    Oddity(
        number="C14",
        sends=sse(choice({"role": "assistant", "content": ""}), finish("length"), usage(900), DONE),
        tokens=900,
        finish_reason="length",
    ),
    Oddity(
        number="C15",
        sends=sse(
            choice({"content": "a"}, obfuscation="x" * 40, logprobs={"content": [{"token": "a", "logprob": -1}] * 20}),
            choice({"content": "b"}, obfuscation="y" * 7),
            finish(),
            DONE,
        ),
        tokens=2,
        first=1,
        counted_by=CHUNKS,
        characters=2,
    ),
    Oddity(
        number="C16",
        sends=sse(*[choice({"reasoning": "h", "reasoning_content": "h"})] * 4, finish(), DONE),
        tokens=4,
        first=1,
        counted_by=CHUNKS,
        characters=4,
    ),
    Oddity(
        number="C17",
        sends=sse(
            *(
                event(to_json({"choices": [{"delta": {"content": t}, "message": {"content": so_far}}]}))
                for t, so_far in (("a", "a"), ("b", "ab"), ("c", "abc"))
            ),
            finish(),
            DONE,
        ),
        tokens=3,
        first=1,
        counted_by=CHUNKS,
        characters=3,
    ),
    Oddity(
        number="C18",
        sends=sse(
            *(
                event(to_json({"object": "chat.completion", "choices": [{"message": {"content": so_far}}]}))
                for so_far in ("a", "ab", "abc")
            ),
            finish(),
            DONE,
        ),
        tokens=3,
        first=1,
        counted_by=CHUNKS,
        characters=3,
    ),
]

A_TOKEN = [
    {"reasoning": "h"},
    {"reasoning_content": "h"},
    {"reasoning_text": "h"},
    {"thinking": "h"},
    {"reasoning_details": [{"type": "reasoning.text", "text": "h"}]},
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]},
    {"content": [{"type": "text", "text": "h"}]},
    {"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    {"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "look", "input": "here"}}]},
    {"refusal": "No."},
    {"audio": {"transcript": "h"}},
    {"audio": {"data": "AAAA"}},
    {"content": " "},
    {"content": "\n"},
    {"content": "\ufffd"},
]
NO_TOKEN = [
    choice({"role": "assistant", "content": ""}),
    choice({"role": "assistant", "content": None}),
    choice({"role": "assistant", "name": "bot", "content": ""}),
    event('{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}'),
    event('{"choices":[{"index":0,"finish_reason":null,"content_filter_results":{}}]}'),
    event('{"choices":[{"index":0,"delta":{"role":"assistant","content":null}}],"prompt_progress":{"total":9}}'),
]
TOKENS = [
    *(
        Oddity(number=f"D1, D9 to D11: {data.decode()[6:-2]}", sends=sse(data, content("a"), *ENDED), tokens=1, first=2)
        for data in NO_TOKEN
    ),
    *(
        Oddity(
            number=f"D2 to D8: {to_json(delta)}",
            sends=sse(choice({"role": "assistant", "content": ""}), choice(delta), choice(delta), finish(), DONE),
            tokens=2,
            first=2,
            counted_by=CHUNKS,
        )
        for delta in A_TOKEN
    ),
    Oddity(
        number="D12",
        sends=sse(
            event('{"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}'),
            event('{"choices":[{"index":0,"delta":{"content":"\\ude00"}}]}'),
            finish(),
            DONE,
        ),
        tokens=2,
        first=1,
        counted_by=CHUNKS,
        characters=1,
    ),
    *(
        Oddity(
            number=f"D13 {number}",
            sends=sse(
                event(f'{{"choices":[{{"index":0,"delta":{{"content":"a"}},"logprobs":{{"logprob":{number}}}}}]}}'),
                *ENDED,
            ),
            tokens=1,
            first=1,
        )
        for number in ("-Infinity", "NaN", "Infinity")
    ),
    Oddity(
        number="D14",
        sends=sse(event(b'{"choices":[{"index":0,"delta":{"content":"\xff\xc3"}}]}'), *ENDED),
        tokens=1,
        first=1,
    ),
    Oddity(
        number="D15",
        sends=sse(content("a", ""), content("b", ""), finish(), usage(2), DONE),
        tokens=2,
        first=1,
    ),
    Oddity(
        number="D15 never another",
        sends=sse(content("a", ""), content("b", "")),
        outcome=BROKEN,
        first=1,
        finish_reason=None,
    ),
]

ODDITIES = [*FRAMING, *ERRORS, *COUNTING, *TOKENS]
